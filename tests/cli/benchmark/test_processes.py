"""`emma-benchmark predict` in processes that are one mesh."""

import dataclasses

import pytest

from emma_jax.benchmarks import folders
from emma_jax.cli import benchmark
from tests import programs
from tests.cli.test_sample import saved
from tests.sampling import small

SETS = ("mmstar", "geneval")
# Compiled without optimisations: these programs run once.
FLAGS = {"XLA_FLAGS": "--xla_backend_optimization_level=0"}


@pytest.mark.slow
def test_two_processes_predict_as_one_and_the_first_writes(tmp_path):
  """Answers and pictures; a second call finds them all."""
  weights = saved(
    tmp_path / "w.safetensors", small.random_params(small.config()["model"])
  )
  asked = ["predict", "--config", "benchmarks/smoke", weights]
  asked += ["--sets", ",".join(SETS), "--config.rows=2"]
  for name in SETS:
    asked.append(f"--config.sets.{name}.limit=3")

  def predict(out: str, count: int) -> list[str]:
    found = programs.together(
      "emma_jax.cli.benchmark",
      *asked,
      *("--out", str(tmp_path / out)),
      count=count,
      EMMA_CACHE=str(tmp_path / "cache"),
      **FLAGS,
    )
    return [out for out, _ in found]

  predict("one", 1)
  first, second = predict("two-{i}", 2)
  assert "mmstar: 3 predicted, 0 were there" in first and not second
  assert not (tmp_path / "two-1").exists()
  for name in SETS:
    assert lines(tmp_path / "two-0", name) == lines(tmp_path / "one", name)
  first, _ = predict("two-{i}", 2)
  assert "mmstar: 0 predicted, 3 were there" in first


def lines(out, name: str) -> list[dict]:
  """Of a set, but for the settings, of which the mesh is one, and bits."""
  found = folders.SetFolder(str(out), name)
  keys = ("id", "repeat", "prompt", "status", "text", "tokens", "error")
  made = [dataclasses.asdict(line) for _, line in found.lines()]
  assert made and all(x["text"] or x["sha256"] for x in made)
  return [{key: x[key] for key in keys} for x in made]


def test_judges_are_asked_by_one(monkeypatch, tmp_path, capsys):
  monkeypatch.setattr("emma_jax.cli.devices.join", lambda args: None)
  monkeypatch.setattr("jax.process_count", lambda: 2)
  asked = ["run", "--config", "benchmarks/smoke", "--checkpoint", "reference"]
  assert benchmark.main([*asked, "--out", str(tmp_path / "x")]) == 2
  said = capsys.readouterr().err
  assert "judges are asked by one" in said and not list(tmp_path.iterdir())
