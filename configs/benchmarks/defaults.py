"""Every key of a benchmark's config, and what it is unless a config says else.

  emma-benchmark run --config benchmarks/paper --checkpoint runs/x \\
      --data DIR --out DIR --config.sets.mmmu.limit=100

What is None, 0 or "" in a set is left to its protocol, or, of sampling, to the
checkpoint's own config.
"""

import ml_collections
from ml_collections import config_dict


def base() -> ml_collections.ConfigDict:
  """No set and no judge; for `get_config` of the others to fill."""
  c = ml_collections.ConfigDict()
  c.name = ""
  # Folder of test sets; --data and EMMA_BENCHMARKS go before it.
  c.data = ""
  # Share of failures above which a set has no score.
  c.max_failed = 0.02
  # Of intervals and of tests between runs.
  c.seed = 0
  # Rows of every program. Part of what decides a prediction, since another
  # number of rows may round otherwise; how many items come at once is not.
  c.rows = 32
  # Items that a judge is asked about at the same time.
  c.concurrency = 8
  c.sets = ml_collections.ConfigDict()
  c.judges = ml_collections.ConfigDict()
  return c


def a_set(**changes) -> ml_collections.ConfigDict:
  """A section of `sets`, with some of its values changed."""
  c = ml_collections.ConfigDict()
  c.enabled = True
  # Of the data; "" the set's default.
  c.split = ""
  # The headline's implementation; all others are printed beside it.
  c.impl = ""
  # Name of a template of the protocol.
  c.prompt = ""
  # Of an answer; 0: the protocol's.
  c.max_tokens = 0
  c.temperature = 0.0
  # Predictions of an item; 0: the protocol's.
  c.repeats = 0
  # (height, width) of drawings; () as trained.
  c.size = ()
  c.sampling = dict(
    steps=config_dict.placeholder(int),
    shift=config_dict.placeholder(float),
    text_guidance=config_dict.placeholder(float),
    image_guidance=config_dict.placeholder(float),
    seed=0,
  )
  # Name of a section of `judges`, "" for none.
  c.judge = ""
  # Of an answer that cannot be read: "wrong", or "seeded_random" as the
  # originals of MMMU and VLMEvalKit do.
  c.fallback = "wrong"
  # Reproduces defects of the official script that are named in the protocol.
  c.official_quirks = False
  # Items at most, whole groups of them; the number is then called partial.
  c.limit = 0
  # Folder of this set's data, where it is not in `data`.
  c.data = ""
  for key, value in changes.items():
    c[key] = value
  return c
