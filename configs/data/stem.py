"""STEM and general questions: the expert's and the router's sets (4a, 4b).

  emma-data chain --config data/stem --out data/stem "onevision/*.parquet"

Results: 3_stem, on which the expert is trained [P], 4_general, and all together
2_label, which the router learns to tell apart. Whether a chart is STEM has two
readings of the paper: `--config.steps.2_label.reading=summary` says yes.
"""

import ml_collections

from configs.data.chains import chain, step


def get_config() -> ml_collections.ConfigDict:
  """Convert, label by rules and then by answers, part."""
  return chain(
    "stem",
    ("onevision/*.parquet",),
    {
      "1_convert": step("convert", share=0.98),
      "2_label": step("label_stem", share=0.95),
      "3_stem": step("filter", stem="stem", share=0.3),
      "4_general": step("filter", input="2_label", stem="general", share=0.7),
    },
  )
