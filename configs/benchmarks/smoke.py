"""A rehearsal: all sets through all stages, with the shipped reference model.

  emma-benchmark run --config benchmarks/smoke --checkpoint reference --out DIR

It takes minutes on two cores, and shows whether an installation, a checkpoint
or a change runs through: some four made-up items a set, whose judges' replies
are made up too and lie beside them. Scores mean nothing, and are marked
partial, so that no comparison takes them.
"""

import ml_collections

from configs.benchmarks import defaults, extras, full, judges

FILES = "package:smoke/files"


def get_config() -> ml_collections.ConfigDict:
  """`full` and `extras`: the sixteen sets, and four newer ones."""
  c = defaults.base()
  c.name = "smoke"
  # Of four answers one that fails is a quarter; three judges' replies are no
  # use on purpose.
  c.max_failed = 0.5
  c.rows = 4
  sets = {**full.get_config().sets, **extras.get_config().sets}
  for name, one in sets.items():
    if not one.enabled:
      continue
    # Named in each: --data and EMMA_BENCHMARKS hold other items.
    one.data = f"{FILES}/cn" if name == "gedit:cn" else FILES
    one.judge = "replies" if one.judge else ""
    one.max_tokens = 8
    one.sampling.steps = 4
    c.sets[name] = one
  # The originals' texts are not part of the package.
  c.sets.wise_verified.impl = "own"
  c.sets.rise.impl = "own"
  c.judges.replies = judges.precomputed(f"{FILES}/judge.jsonl")
  return c
