"""OmniEdit: edits with their own scores, judged again (stage 2).

  emma-data chain --config data/omniedit --out data/omniedit \\
      "omniedit/*.parquet"

Result: 4_judged. GPT-Image-Edit-1.5M has no chain here: the paper leaves it
out, since it raises GEdit-Bench and breaks the consistency of subjects.
"""

import ml_collections

from configs.data.chains import chain, step


def get_config() -> ml_collections.ConfigDict:
  """Convert, size, the set's own score, judge and faces."""
  return chain(
    "omniedit",
    ("omniedit/*.parquet",),
    {
      "1_convert": step(
        "convert", form="omniedit", keep=("o_score",), share=0.98
      ),
      "2_size": step("filter", min_side=384, max_aspect=3.0, share=0.98),
      # Its makers' overall score, of 10 [D: where it cuts].
      "3_score": step(
        "filter", score="o_score", by="noted", minimum=8.0, share=0.8
      ),
      "4_judged": step(
        "check_edits", reverse=False, reversals="", ocr="", share=0.8
      ),
    },
  )
