"""Edits made: instruction, editing model, reverse pair, filters (stage 2) [P].

  emma-data chain --config data/synthetic_edits --out data/synthetic_edits \\
      "pictures/*.tar"

A vision-language model writes an instruction for every picture and what undoes
it, an editing model carries it out, a judge looks at the pair and at the
reverse pair, and where there are people their faces are compared. Result:
5_pairs.
"""

import ml_collections

from configs.data.chains import chain, step


def get_config() -> ml_collections.ConfigDict:
  """Convert, size, propose, apply, check and turn around."""
  return chain(
    "synthetic_edits",
    ("pictures/*.tar",),
    {
      "1_convert": step("convert", share=0.95),
      "2_size": step("filter", min_side=768, max_aspect=2.5, share=0.5),
      "3_instruction": step("propose_edits", share=0.98),
      "4_edited": step("apply_edits", share=0.97),
      "5_pairs": step("check_edits", ocr="", share=1.0),
    },
  )
