from tests import programs

SCORING = """
import importlib, pkgutil
from emma_jax import stats
from emma_jax.benchmarks import scoring
for module in pkgutil.iter_modules(scoring.__path__):
  importlib.import_module(f"emma_jax.benchmarks.scoring.{module.name}")
"""
# All that comes after predicting, as the command's stages load it.
STAGES = """
from emma_jax.benchmarks import (
  aggregate, calibration, compare, decide, estimate, gates, page, rescore, runs,
  scored, stages, suite, tables,
)
assert len(suite.benchmarks()) > 16
"""


def test_scoring_needs_numpy_alone():
  """Numbers are checked, and scored again, where there is no accelerator."""
  found = programs.loaded(SCORING)
  assert "numpy" in found
  assert not found & {"jax", "flax", "torch", "PIL", "ml_collections"}


def test_judging_scoring_and_reporting_need_no_jax():
  """They run where the model does not."""
  found = programs.loaded(STAGES)
  assert not found & {"jax", "flax", "torch", "orbax", "onnxruntime"}
