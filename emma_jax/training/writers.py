"""Where numbers, pictures and texts of a run go, beside its own files.

TensorBoard always; the others where `train.writers` names them. None is
imported before that.
"""

from collections.abc import Callable, Mapping, Sequence
import contextlib
import importlib.util
import json
import os
import pathlib
from typing import Any, Protocol

import numpy as np

from emma_jax import files
from emma_jax.training import event_files

# Name -> the package that it needs.
OTHERS = {"wandb": "wandb", "mlflow": "mlflow"}


class Writer(Protocol):
  """Takes what is logged after a step of the run."""

  def scalars(self, step: int, values: Mapping[str, float]) -> None:
    """Numbers by name."""

  def pictures(self, step: int, pictures: Mapping[str, np.ndarray]) -> None:
    """uint8 (Y, X, 3) by name."""

  def texts(self, step: int, texts: Mapping[str, str]) -> None:
    """Texts by name."""

  def close(self) -> None:
    """Brings all to where it belongs."""


def check(names: Sequence[str]) -> None:
  """Raises ValueError for writers that are unknown or not installed."""
  for name in names:
    if name not in OTHERS:
      raise ValueError(
        f"writers={tuple(names)}: {name!r} is unknown; choose among "
        f"{tuple(OTHERS)} (TensorBoard is written always)."
      )
    if importlib.util.find_spec(OTHERS[name]) is None:
      raise ValueError(
        f"writers={tuple(names)}: {name} is not installed; `pip install "
        f"{OTHERS[name]}`, or leave it out."
      )


def opened(
  names: Sequence[str],
  workdir: pathlib.Path,
  purge_step: int | None,
  config: Mapping[str, Any],
  note: Callable[[str], None],
) -> list[Writer]:
  """TensorBoard's writer, and those named.

  Args:
    names: see `check`.
    workdir: of the run; a run that goes on there goes on with the writers too.
    purge_step: the first step that TensorBoard forgets from older files.
    config: of the run, JSON; its `name` is theirs.
    note: told what a writer could not do, once: it ends no run.
  """
  makes: dict[str, Callable[[pathlib.Path, Mapping[str, Any]], Writer]]
  makes = {"wandb": _Wandb, "mlflow": _Mlflow}
  out: list[Writer] = [TensorBoard(workdir, purge_step, config, note)]
  for name in names:
    kept = _Kept(name, note)
    with kept.told():
      kept.writer = makes[name](workdir, config)
    out.append(kept)
  return out


class TensorBoard:
  """An event file in WORKDIR/tensorboard; the config is one of its texts."""

  def __init__(
    self,
    workdir: pathlib.Path,
    purge_step: int | None,
    config: Mapping[str, Any],
    note: Callable[[str], None],
  ):
    self._events = event_files.writer(workdir / "tensorboard", purge_step, note)
    text = json.dumps(config, indent=2, ensure_ascii=False, default=str)
    block = "".join(f"    {line}\n" for line in text.split("\n"))
    # At the step from which on it holds: a run that goes on may change it.
    self.texts((purge_step or 1) - 1, {"config": block})

  def scalars(self, step: int, values: Mapping[str, float]) -> None:
    """See Writer."""
    for name, value in values.items():
      self._events.add_scalar(name, value, step)

  def pictures(self, step: int, pictures: Mapping[str, np.ndarray]) -> None:
    """See Writer."""
    for name, picture_YXC in pictures.items():
      self._events.add_image(name, picture_YXC, step, dataformats="HWC")

  def texts(self, step: int, texts: Mapping[str, str]) -> None:
    """See Writer."""
    for name, text in texts.items():
      self._events.add_text(name, text, step)

  def close(self) -> None:
    """See Writer."""
    self._events.close()


class _Kept:
  """Another's writer: what it raises is told, and it is asked no more."""

  def __init__(self, name: str, note: Callable[[str], None]):
    self._name, self._note = name, note
    self.writer: Writer | None = None

  @contextlib.contextmanager
  def told(self):
    try:
      yield
    except Exception as error:  # a server that is down must not end a run
      self.writer = None
      self._note(
        f"{self._name} writes no more: {type(error).__name__}: {error}"
      )

  def scalars(self, step: int, values: Mapping[str, float]) -> None:
    if self.writer:
      with self.told():
        self.writer.scalars(step, values)

  def pictures(self, step: int, pictures: Mapping[str, np.ndarray]) -> None:
    if self.writer:
      with self.told():
        self.writer.pictures(step, pictures)

  def texts(self, step: int, texts: Mapping[str, str]) -> None:
    if self.writer:
      with self.told():
        self.writer.texts(step, texts)

  def close(self) -> None:
    if self.writer:
      with self.told():
        self.writer.close()


class _Wandb:
  """Weights & Biases; project, mode and key are WANDB_*'s."""

  def __init__(self, workdir: pathlib.Path, config: Mapping[str, Any]):
    import wandb

    self._wandb: Any = wandb
    kept = workdir / "wandb.id"
    number = _read(kept) or wandb.util.generate_id()
    self._run = wandb.init(
      project=os.environ.get("WANDB_PROJECT", "emma"),
      name=str(config["name"]),
      id=number,
      resume="allow",
      dir=str(workdir),
      config=dict(config),
    )
    files.write_text(kept, number)
    # Its own steps only rise; a run that goes back a little writes them again.
    self._run.define_metric("step")
    self._run.define_metric("*", step_metric="step")

  def scalars(self, step: int, values: Mapping[str, float]) -> None:
    self._run.log({"step": step, **values})

  def pictures(self, step: int, pictures: Mapping[str, np.ndarray]) -> None:
    made = {name: self._wandb.Image(x) for name, x in pictures.items()}
    self._run.log({"step": step, **made})

  def texts(self, step: int, texts: Mapping[str, str]) -> None:
    rows = [[step, name, text] for name, text in texts.items()]
    table = self._wandb.Table(columns=["step", "name", "text"], data=rows)
    self._run.log({"step": step, "samples/texts": table})

  def close(self) -> None:
    self._run.finish()


class _Mlflow:
  """MLflow; server, experiment and key are MLFLOW_*'s."""

  def __init__(self, workdir: pathlib.Path, config: Mapping[str, Any]):
    import mlflow

    self._client: Any = mlflow.tracking.MlflowClient()
    kept = workdir / "mlflow.id"
    number = _read(kept)
    if number is None:
      experiment = os.environ.get("MLFLOW_EXPERIMENT_NAME", "emma")
      found = self._client.get_experiment_by_name(experiment)
      self._experiment = (
        found.experiment_id
        if found
        else self._client.create_experiment(experiment)
      )
      made = self._client.create_run(
        self._experiment, run_name=str(config["name"])
      )
      number = made.info.run_id
      files.write_text(kept, number)
      self._client.log_dict(number, dict(config), "config.json")
    else:
      self._client.update_run(number, status="RUNNING")
    self._number = number

  def scalars(self, step: int, values: Mapping[str, float]) -> None:
    for name, value in values.items():
      self._client.log_metric(self._number, name, value, step=step)

  def pictures(self, step: int, pictures: Mapping[str, np.ndarray]) -> None:
    for name, picture_YXC in pictures.items():
      self._client.log_image(
        self._number, picture_YXC, artifact_file=f"{name}/{step:09d}.png"
      )

  def texts(self, step: int, texts: Mapping[str, str]) -> None:
    for name, text in texts.items():
      self._client.log_text(self._number, text, f"{name}/{step:09d}.txt")

  def close(self) -> None:
    self._client.set_terminated(self._number)


def _read(path: pathlib.Path) -> str | None:
  """What an earlier start of the run is called; None: there was none."""
  return path.read_text(encoding="utf-8").strip() if path.exists() else None
