"""X2I2 (OmniGen2): edits and drawings (stage 2).

  emma-data chain --config data/x2i2 --out data/x2i2 "x2i2/*.parquet"

Rows with more than one input picture are no edits of one reference: they are
rejected and counted. Result: 4_judged; edits are used as they are published,
not turned around.
"""

import ml_collections

from configs.data.chains import chain, step


def get_config() -> ml_collections.ConfigDict:
  """Convert, edits alone, size, judge."""
  return chain(
    "x2i2",
    ("x2i2/*.parquet",),
    {
      # Many rows have several inputs (subjects put together).
      "1_convert": step("convert", form="x2i2", share=0.6, max_rejected=0.8),
      "2_edits": step("filter", tasks=("editing",), share=0.8),
      "3_size": step("filter", min_side=384, max_aspect=3.0, share=0.95),
      "4_judged": step(
        "check_edits", reverse=False, reversals="", ocr="", face="", share=0.7
      ),
    },
  )
