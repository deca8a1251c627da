"""LAION recaptioned: pretraining's questions and drawings (stage 1).

  emma-data chain --config data/laion --out data/laion "laion/*.parquet"

Rows have a picture and a caption (another column's name:
`--config.steps.1_convert.columns="(('caption','TEXT'),)"`). Results: 5_i2t, all
pictures with their caption as an answer, and 6_t2i, those that pass the
aesthetic filter. Both come from the same captions: a picture is described once.
"""

import ml_collections

from configs.data.chains import chain, step


def get_config() -> ml_collections.ConfigDict:
  """Convert, size, duplicates, caption; questions; drawings."""
  return chain(
    "laion",
    ("laion/*.parquet",),
    {
      "1_convert": step("convert", share=0.95),
      # Below 256 pixels nothing is left to see at 512 [D].
      "2_size": step("filter", min_side=256, max_aspect=3.0, share=0.8),
      "3_unique": step("dedup", share=0.9),
      "4_caption": step("recaption", share=0.98),
      "5_i2t": step("as_questions"),
      # Of 10 [P: an aesthetic filter; D: where it cuts]. With a column of
      # scores: keep=("aesthetic",) above, and by="noted" here.
      "6_t2i": step(
        "filter",
        input="4_caption",
        score="aesthetic",
        by="vlm",
        minimum=5.0,
        share=0.5,
      ),
    },
  )
