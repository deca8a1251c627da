"""Writers beside TensorBoard: by name alone, and none ends a run."""

import sys
import types

import numpy as np
import pytest

from emma_jax.training import metrics, writers
from tests import programs

PICTURE = np.zeros((4, 6, 3), np.uint8)


class Calls(list):
  """Remembers calls of any name."""

  def __getattr__(self, name):
    return lambda *args, **kwargs: self.append((name, args, kwargs))


@pytest.fixture
def wandb(monkeypatch):
  """A stand-in with wandb's interface: the runs it was asked for."""
  module = types.ModuleType("wandb")
  module.runs = []

  def init(**options):
    module.runs.append((options, Calls()))
    return module.runs[-1][1]

  module.init = init
  module.util = types.SimpleNamespace(generate_id=lambda: "abc")
  module.Image = lambda x: ("image", x.shape)
  module.Table = lambda columns, data: ("table", data)
  monkeypatch.setitem(sys.modules, "wandb", module)
  return module


@pytest.fixture
def mlflow(monkeypatch):
  module = types.ModuleType("mlflow")
  module.calls = Calls()

  class Client:
    def __getattr__(self, name):
      return getattr(module.calls, name)

    def get_experiment_by_name(self, name):
      return None

    def create_experiment(self, name):
      return "7"

    def create_run(self, experiment, run_name):
      module.calls.append(("create_run", (experiment, run_name), {}))
      info = types.SimpleNamespace(run_id="xyz")
      return types.SimpleNamespace(info=info)

  module.tracking = types.SimpleNamespace(MlflowClient=Client)
  monkeypatch.setitem(sys.modules, "mlflow", module)
  return module


def write(folder, *others, note=None):
  with metrics.MetricWriter(
    folder, None, True, others, {"name": "mine", "data": {"seed": 1}}
  ) as writer:
    if note is not None:
      writer.note = lambda text, everywhere=False: note.append(text)
    writer.write(3, {"stage": "a", "loss": 1.5}, {"step_seconds": 2.0})
    writer.show(3, {"samples": PICTURE}, {"samples/understanding": "a | b"})
  return metrics.read_metrics(folder)


def test_wandb_gets_numbers_pictures_and_texts(wandb, tmp_path):
  write(tmp_path, "wandb")
  write(tmp_path, "wandb")  # as a run that goes on: the same run there
  (options, calls), (again, _) = wandb.runs
  assert options["name"] == "mine" and options["config"]["data"]["seed"] == 1
  assert options["id"] == again["id"] == "abc" and again["resume"] == "allow"
  logged = [args[0] for name, args, _ in calls if name == "log"]
  assert logged[0] == {"step": 3, "loss": 1.5, "timing/step_seconds": 2.0}
  assert logged[1] == {"step": 3, "samples": ("image", PICTURE.shape)}
  assert logged[2]["samples/texts"] == (
    "table",
    [[3, "samples/understanding", "a | b"]],
  )
  assert calls[-1][0] == "finish"


def test_mlflow_gets_numbers_pictures_and_texts(mlflow, tmp_path):
  write(tmp_path, "mlflow")
  write(tmp_path, "mlflow")
  names = [name for name, *_ in mlflow.calls]
  assert names.count("create_run") == 1 and names.count("update_run") == 1
  found = {name: (args, more) for name, args, more in mlflow.calls}
  assert ("log_metric", ("xyz", "loss", 1.5), {"step": 3}) in mlflow.calls
  assert found["log_image"][1]["artifact_file"] == "samples/000000003.png"
  assert found["log_text"][0][1] == "a | b"


def test_a_writer_that_fails_is_told_and_ends_nothing(wandb, tmp_path):
  def init(**_):
    raise ConnectionError("no route to host")

  wandb.init = init
  told = []
  assert write(tmp_path, "wandb", note=told)[0]["loss"] == 1.5
  assert told == ["wandb writes no more: ConnectionError: no route to host"]


def test_a_writer_that_cannot_be_is_a_mistake_before_the_run(monkeypatch):
  with pytest.raises(ValueError, match="'neptune' is unknown.*wandb.*mlflow"):
    writers.check(("neptune",))
  monkeypatch.setattr(writers.importlib.util, "find_spec", lambda name: None)
  with pytest.raises(ValueError, match="mlflow is not installed.*pip install"):
    writers.check(("mlflow",))
  writers.check(())


def test_none_is_imported_that_is_not_named(tmp_path):
  program = (
    "import sys, numpy; from emma_jax.training import metrics\n"
    "writer = metrics.MetricWriter(sys.argv[1])\n"
    "writer.write(1, {'loss': 1.0})\n"
    "writer.show(1, {'a': numpy.zeros((4, 4, 3), 'uint8')}, {'b': 'c'})\n"
    "writer.close()"
  )
  found = programs.loaded(program, str(tmp_path))
  assert "tensorboardX" in found and not found & {"wandb", "mlflow"}


def test_pictures_and_texts_reach_tensorboard(tmp_path):
  write(tmp_path)
  events = b"".join(
    p.read_bytes() for p in (tmp_path / "tensorboard").iterdir()
  )
  assert b"PNG" in events and b"samples/understanding" in events
