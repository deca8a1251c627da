"""The parity tests see every mistake of `mutations_qwen3`."""

import functools

import jax
import numpy as np
import pytest

from emma_jax import rules
from tests.tiny import QUICK

pytest.importorskip("torch")
pytest.importorskip("transformers")
pytestmark = pytest.mark.torch

from tests.convert import mutations_qwen3
from tests.convert import reference_qwen3 as ref

MUTATIONS = mutations_qwen3.MUTATIONS


@functools.cache
def want(kind: str, case: str) -> list[np.ndarray]:
  return ref.theirs(kind, ref.case(case))


def test_the_list_is_long_and_each_is_there_once():
  assert len({m.name for m in MUTATIONS}) == len(MUTATIONS) >= 25


def test_without_a_mistake_the_patched_way_is_right():
  """What patched functions are compiled with makes no error of its own."""
  config, params = ref.imported("untied")
  c = ref.case("plain")
  run = jax.jit(lambda *x: ref.apply(config, *x), compiler_options=QUICK)
  with jax.default_matmul_precision("highest"):
    got = ref.ours(config, params, c, lambda _, *x: run(*x))
  assert max(ref.errors(got, want("untied", "plain"), c)) < c.tolerance


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda m: m.name)
def test_the_parity_test_catches(mutation, monkeypatch: pytest.MonkeyPatch):
  """Its error is several times the tolerance; without it, below."""
  config, params = ref.imported(mutation.kind)
  case = ref.case(mutation.case)
  patched = []

  def patch(module, name, replacement):
    patched.append(name)
    monkeypatch.setattr(module, name, replacement)

  flat = {k: np.asarray(x) for k, x in rules.flatten(params).items()}
  attempt = mutations_qwen3.Attempt(config, flat, case, patch)
  mutation.make(attempt)
  run = ref.run
  if patched:  # a function that nobody compiled yet
    fresh = jax.jit(lambda *x: ref.apply(config, *x), compiler_options=QUICK)
    run = lambda _, *x: fresh(*x)
  theirs = want(mutation.kind, mutation.case)
  with jax.default_matmul_precision("highest"):
    right = ref.ours(config, params, case) if not patched else None
    wrong = ref.ours(
      attempt.config, rules.unflatten(attempt.flat), attempt.inputs, run
    )
  found = max(ref.errors(wrong, theirs, case))
  print(f"{mutation.name}: {found:.1e}")
  assert found > 5 * case.tolerance
  if right is not None:
    assert max(ref.errors(right, theirs, case)) < case.tolerance
