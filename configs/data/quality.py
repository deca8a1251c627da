"""The quality set (stage 3): the best of every kind, by task [P].

  emma-data chain --config data/quality --out data/quality \\
      data/onevision data/t2i_1k/5_portrait_label-... data/omniedit/4_judged-...

Inputs are folders of records. Every one gets a score, and the highest of each
task stay: 1 M questions, 0.15 M drawings, 0.35 M edits [P]. Result: 2_best. To
balance kinds of questions, too: `--config.steps.2_best.by=data_source` makes a
group of every value that the provenance has there, with `count` records each.
"""

import ml_collections

from configs.data.chains import chain, step


def get_config() -> ml_collections.ConfigDict:
  """Score, then the best of each task."""
  return chain(
    "quality",
    ("data/sft",),
    {
      "1_score": step("filter", score="quality", ask="quality", by="vlm"),
      "2_best": step(
        "select",
        count=0,
        counts=(
          ("understanding", 1_000_000),
          ("drawing", 150_000),
          ("editing", 350_000),
        ),
        share=0.1,
      ),
    },
  )
