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
# All that comes after predicting, as the command's stages load it.
STAGES = """
import sys
from emma_jax.benchmarks import (
  aggregate, calibration, compare, decide, estimate, gates, page, rescore, runs,
  scored, stages, suite, tables,
)
assert len(suite.benchmarks()) > 16
loaded = {name.partition(".")[0] for name in sys.modules}
print(sorted(loaded & {"jax", "flax", "torch", "orbax", "onnxruntime"}))
"""


def loaded(program: str, repo) -> str:
  done = subprocess.run(
    [sys.executable, "-c", program],
    cwd=repo,
    capture_output=True,
    text=True,
    check=True,
  )
  return done.stdout.strip()


def test_scoring_needs_numpy_alone(repo):
  """Numbers are checked, and scored again, where there is no accelerator."""
  assert loaded(PROGRAM, repo) == "[]"


def test_judging_scoring_and_reporting_need_no_jax(repo):
  """They run where the model does not."""
  assert loaded(STAGES, repo) == "[]"
