"""Pictures with rendered text (stage 2): by fonts, and by a generator.

  emma-data chain --config data/rendered_text --out data/rendered_text

Reads nothing. Results: 1_fonts, exact and flat, and 3_read, words in scenes
that OCR reads as they were asked for. English alone [P: drawings are English;
Chinese prompts are to be understood without having been trained].
"""

import ml_collections

from configs.data.chains import chain, step


def get_config() -> ml_collections.ConfigDict:
  """Drawn by fonts; drawn by a generator and read."""
  return chain(
    "rendered_text",
    (),
    {
      "1_fonts": step("synth_text"),
      "2_generated": step("generate_text", share=0.97),
      "3_read": step("check_text", share=0.6),
    },
  )
