"""One door to weights, however they are stored.

NAME          shipped with the package, see `SHIPPED`
FOLDER        of a training, its folder checkpoints/, or a step in there
FILE          that `weight_files` wrote
FOLDER        that `convert export emma` wrote: config.json and safetensors
"""

from collections.abc import Callable, Mapping
import dataclasses
import functools
import importlib.resources
import pathlib
from typing import Any

from emma_jax.checkpoints import by_leaf, sound
from emma_jax.checkpoints.by_leaf import Keep
from emma_jax.checkpoints.integrity import CheckpointError
from emma_jax.checkpoints.weight_files import load_weights
from emma_jax.convert import emma as exported
from emma_jax.files import instead

SHIPPED = {
  "reference": "reference.safetensors",
  "world_autoencoder": "world_autoencoder.safetensors",
}


class NoWeights(CheckpointError):
  """Nothing is where weights were looked for."""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Weights:
  """Weights, and what was written beside them.

  params: nested dicts of arrays; float32 unless a run kept them otherwise, or
    as they were asked for.
  meta: the config, fingerprints and the like; of a weight file perhaps less.
  """

  params: dict
  meta: Mapping[str, Any]


# The metadata of weights -> whether a run's averaged ones (EMA) are wanted. It
# is asked before any array is read, and may refuse by raising.
Choose = Callable[[Mapping[str, Any]], bool]
# The same metadata -> how the weights are to be kept; asked after `Choose`.
Kept = Callable[[Mapping[str, Any]], Keep]


def installed(name: str) -> bool:
  """Whether this installation ships the weights of that name."""
  return (
    importlib.resources.files("emma_jax.assets") / SHIPPED[name]
  ).is_file()


def read(
  name: str,
  choose: Choose = lambda meta: True,
  kept: Kept = lambda meta: Keep(),
) -> Weights:
  """Reads weights; of a run, the newest step that is not damaged.

  A weight at a time goes to its place, in its dtype: beside what is kept the
  host's memory holds about one of an export, and more than three times the
  largest of a run; `emma-speed restore` measures it.

  Raises:
    NoWeights: nothing is there.
    CheckpointError: what is there cannot be read, or is damaged, as is an
      exported folder that is not whole or not finite.
  """
  if name in SHIPPED:
    check(name)
    files = importlib.resources.files("emma_jax.assets")
    with importlib.resources.as_file(files / SHIPPED[name]) as path:
      return _of_file(path, choose, kept)
  return _reader(name)(choose, kept)


def check(name: str) -> None:
  """Raises NoWeights where `read` would; nothing is read."""
  if name not in SHIPPED:
    _reader(name)
  elif not installed(name):
    raise NoWeights(
      f"This installation ships no {name} weights; name a weight file or the "
      "working directory of a training instead."
    )


def _reader(name: str) -> Callable[[Choose, Kept], Weights]:
  """What reads weights that are not shipped."""
  path = pathlib.Path(name).expanduser()
  if path.is_file():
    return functools.partial(_of_file, path)
  if (path / "config.json").is_file():
    return functools.partial(_of_export, path)
  if (path / "checkpoints").is_dir():
    path = path / "checkpoints"
  if path.name.isdigit() and (path / "state").is_dir():
    return functools.partial(_of_run, path.parent, int(path.name))
  if not sound.saved_steps(path):
    link = instead(path / "config.json")
    if link:
      raise NoWeights(f"{path / 'config.json'} cannot be read: {link}.")
    raise NoWeights(
      f"No weights at {name}: name one of {sorted(SHIPPED)}, a .safetensors "
      "file, the working directory of a training that has saved a checkpoint, "
      "or a folder that `emma-convert export emma` wrote."
    )
  return functools.partial(_of_run, path, None)


def stages(workdir: str) -> list[tuple[str, str]]:
  """(stage, where its weights are) of a training, in its order.

  Files WORKDIR/stages/NAME.safetensors in the order of their names; without
  them, of each stage the last step that is still saved.

  Raises:
    NoWeights: nothing is there.
  """
  path = pathlib.Path(workdir).expanduser().absolute()
  kept = sorted((path / "stages").glob("*.safetensors"))
  if kept:
    return [(file.stem, str(file)) for file in kept]
  # Here: weight files are read without Orbax.
  from emma_jax.checkpoints.checkpointer import read_step

  directory = path / "checkpoints"
  found: dict[str, str] = {}
  for step in sound.saved_steps(directory):
    _, meta = read_step(directory, step, ())
    found[str(meta.get("stage", step))] = str(directory / str(step))
  if not found:
    raise NoWeights(
      f"{workdir} holds neither stages/NAME.safetensors nor saved steps; name "
      "the working directory of a training."
    )
  return list(found.items())


def prompts_file(name: str) -> pathlib.Path | None:
  """Where statistics of a model's training prompts lie, or would lie.

  Beside a weight file (reference.safetensors: reference.prompts.json), in the
  working folder of a training or in an exported folder (prompts.json). None
  where weights are shipped within an archive, and where nothing has the name.
  """
  path = pathlib.Path(name).expanduser()
  if name in SHIPPED:
    found = importlib.resources.files("emma_jax.assets") / SHIPPED[name]
    if not isinstance(found, pathlib.Path):
      return None
    path = found
  if path.is_file():
    return path.with_suffix(".prompts.json")
  if not path.is_dir():
    return None
  if path.name.isdigit() and path.parent.name == "checkpoints":
    path = path.parent
  if path.name == "checkpoints":
    path = path.parent
  return path / "prompts.json"


def _of_file(path: pathlib.Path, choose: Choose, kept: Kept) -> Weights:
  def keep(meta: Mapping[str, Any]) -> Keep:
    choose(meta)
    return kept(meta)

  params, meta = load_weights(path, dtype="float32", keep=keep)
  return Weights(params=params, meta=meta)


def _of_run(
  directory: pathlib.Path, step: int | None, choose: Choose, kept: Kept
) -> Weights:
  """Of the newest sound step, or of exactly `step`."""

  # Here: weight files are read without Orbax.
  from emma_jax.checkpoints.checkpointer import read_step

  def load(number: int) -> Weights:
    _, meta = read_step(directory, number, ())
    meta = meta | {"step": number}  # as a weight file says it
    learned = "ema" if choose(meta) else "trained"
    params = by_leaf.read_step(
      directory, number, (learned, "frozen"), kept(meta)
    )
    return Weights(params=params, meta=meta)

  directory = directory.absolute()  # Orbax takes no other
  steps = sound.saved_steps(directory)
  return sound.newest_sound(steps, step, load, directory, set())


def _of_export(path: pathlib.Path, choose: Choose, kept: Kept) -> Weights:
  refused: list[Exception] = []  # by the caller, in words of its own

  def putting(about: exported.Exported) -> exported.Put:
    try:
      choose(_meta(about))
      return kept(_meta(about)).put
    except Exception as error:
      refused.append(error)
      raise

  try:
    found = exported.load(path, putting)
  except ValueError as error:  # of folder, config, names or values: all tell
    if error in refused:
      raise
    raise CheckpointError(str(error)) from error
  return Weights(params=found.params, meta=_meta(found))


def _meta(found: exported.Exported) -> dict[str, Any]:
  return {
    "config": found.config,
    "step": found.step,
    "router_trained": found.route == "router",
    "exported": True,
  }
