"""Drawings of 1K and more, aesthetic, half of them portraits (stages 2, 3).

  emma-data chain --config data/t2i_1k --out data/t2i_1k "pictures/*.tar"

Results: 6_portrait and 7_general, the sources drawing_portrait and
drawing_general of finetuning's balanced phase, which draws them 1:1 [P]; all
together are 5_portrait_label.
"""

import ml_collections

from configs.data.chains import chain, step


def get_config() -> ml_collections.ConfigDict:
  """Convert, size, aesthetic, caption, portrait or general."""
  return chain(
    "t2i_1k",
    ("pictures/*.tar",),
    {
      "1_convert": step("convert", share=0.95),
      # "At least 1K" [P]: as many pixels, in no shape beyond the buckets'.
      "2_size": step(
        "filter", min_pixels=1024 * 1024, max_aspect=4.0, share=0.3
      ),
      "3_aesthetic": step(
        "filter", score="aesthetic", by="vlm", minimum=6.0, share=0.3
      ),
      "4_caption": step("recaption", share=0.98),
      "5_portrait_label": step("label", name="portrait", share=0.99),
      "6_portrait": step(
        "filter", noted=(("portrait", "portrait"),), share=0.3
      ),
      "7_general": step(
        "filter",
        input="5_portrait_label",
        noted=(("portrait", "general"),),
        share=0.7,
      ),
    },
  )
