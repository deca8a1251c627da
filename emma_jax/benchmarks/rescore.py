"""Makes another implementation a run's headline: no model, no judge.

The aggregate stage is run again on the predictions and replies that are there,
so that rules which were mended since count too.
"""

import copy
import os
import sys

from emma_jax.benchmarks import aggregate, folders, runs, suite
from emma_jax.benchmarks import results as reading
from emma_jax.benchmarks.settings import BadSettings


def rescore(out: str, impl: str, only: str = "", data: str = "") -> str:
  """Scores sets again, `impl` first; returns the path of results.json.

  The folder's config names it from then on. Sets that do not have it stay as
  they are where they are not named.

  Args:
    out: folder of the results.
    impl: implementation.
    only: sets, with commas between; "": all that were run and have it.
    data: folder of the test sets, over the config's.

  Raises:
    BadRun: nothing was scored in this folder yet; files that cannot be used.
    BadSettings: a set that is named does not have it, or none has; data that
      is not there.
  """
  before = reading.read(out)
  chosen, others = [], []
  for name in reading.select(before, only):
    known = suite.find(name.partition(":")[0]).impls
    if impl in known:
      chosen.append(name)
    elif only or impl == "":
      raise BadSettings(
        f"{name} has no implementation {impl!r}; it has {', '.join(known)}."
      )
    else:
      others.append(f"{name} ({', '.join(known)})")
  if not chosen:
    raise BadSettings(
      f"No set has an implementation {impl!r}: {'; '.join(others)}."
    )
  for name in others:
    print(f"note: stays as it is: {name}", file=sys.stderr)
  config = copy.deepcopy(runs.saved_config(out))
  for name in chosen:
    config["sets"][name]["impl"] = impl
  run = runs.make_run(config, out, ",".join(chosen), data)
  sources = runs.open_sources(run)
  found = []
  for one in run.sets:
    entry = before.find(one.name)
    assert entry is not None  # `select` looked
    found.append(
      aggregate.aggregate(
        sources[one.name],
        one,
        run.place(one),
        # As its judge was when it was asked: none is made here.
        entry["judge"]["identity"],
        max_failed=config["max_failed"],
        seed=config["seed"],
      )
    )
  path = aggregate.write(out, config, found)
  folders.write_json(os.path.join(out, runs.CONFIG), config)
  return path
