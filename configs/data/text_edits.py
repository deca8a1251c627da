"""Edits of text: words that OCR finds, replaced or removed (stage 2) [P].

  emma-data chain --config data/text_edits --out data/text_edits "signs/*.tar"

Pictures with words in them (signs, posters, covers). OCR reads the words, one
is replaced by others of its length or removed, an editing model does it, OCR
checks that the old words are gone and the new ones there, and the pair is
turned around by rule. Result: 5_pairs.
"""

import ml_collections

from configs.data.chains import chain, step


def get_config() -> ml_collections.ConfigDict:
  """Convert, size, read and propose, apply, read again and turn around."""
  return chain(
    "text_edits",
    ("signs/*.tar",),
    {
      "1_convert": step("convert", share=0.95),
      "2_size": step("filter", min_side=512, max_aspect=2.5, share=0.7),
      "3_instruction": step("propose_text_edits", share=0.5),
      "4_edited": step("apply_edits", share=0.97),
      "5_pairs": step("check_edits", reversals="", face="", share=1.0),
    },
  )
