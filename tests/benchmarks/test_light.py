import subprocess
import sys

PROGRAM = """
import importlib, pkgutil, sys
from emma_jax.benchmarks import scoring, stats
for module in pkgutil.iter_modules(scoring.__path__):
  importlib.import_module(f"emma_jax.benchmarks.scoring.{module.name}")
loaded = {name.partition(".")[0] for name in sys.modules}
assert "numpy" in loaded
print(sorted(loaded & {"jax", "flax", "torch", "PIL", "ml_collections"}))
"""


def test_scoring_needs_numpy_alone(repo):
  """Numbers are checked, and scored again, where there is no accelerator."""
  done = subprocess.run(
    [sys.executable, "-c", PROGRAM],
    cwd=repo,
    capture_output=True,
    text=True,
    check=True,
  )
  assert done.stdout.strip() == "[]"
