"""Checkpoints that are checked: Orbax plus checksums, fallback, parts of them.

Orbax restores a flipped bit without a word. So every save writes, in the same
atomic commit, a checksum per leaf and one over the metadata; every restore
compares them and, on damage, says so and takes the previous step. Nothing is
ever deleted because of damage.

Why a checksum per leaf and not per file: it is part of the commit itself (a
file can only be hashed after its asynchronous commit, which a kill could
interrupt), it also covers the way through memory, and it is a sum over
elements, so it is the same on any mesh and any number of processes, each of
which sums its own shards.
"""

from collections.abc import Callable, Mapping, Sequence
import pathlib
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers as policies

from emma_jax import rules, storage
from emma_jax.checkpoints import sound, together
from emma_jax.checkpoints.integrity import (
  CheckpointDamaged,
  CheckpointError,
  ContradictionError,
  config_differences,
  sealed,
)
from emma_jax.checkpoints.regular import NewestRegular

__all__ = (
  "CheckpointDamaged",
  "CheckpointError",
  "Checkpointer",
  "ContradictionError",
  "config_differences",
  "read_step",
  "restore_params",
  "save_params",
)

# Bytes of a leaf that are stored, packed and checked together at most.
PIECE = 2**26


class Checkpointer:
  """Steps of a run in a directory, newest `keep` and optionally each n-th."""

  def __init__(
    self,
    directory: str | pathlib.Path,
    keep: int,
    keep_every: int,
    regular: Callable[[int], bool] | None = None,
  ):
    """Opens or creates `directory`.

    Args:
      directory: one sub-directory per step appears here.
      keep: newest steps that stay; at least 2, or damage has no fallback.
      keep_every: multiples of this step stay for ever; 0 for none.
      regular: the newest step of which this is true stays, too.

    Raises:
      NotADirectoryError: `directory` is a file.
    """
    if keep < 2:
      raise ValueError(f"{keep=} leaves no step to fall back to; use 2.")
    self.directory = pathlib.Path(directory).absolute()
    if self.directory.exists() and not self.directory.is_dir():
      raise NotADirectoryError(
        f"{self.directory} is a file where checkpoints belong; move it away."
      )
    preserve: list[Any] = [policies.LatestN(keep)]
    if keep_every:
      preserve.append(policies.EveryNSteps(keep_every))
    if regular is not None:
      preserve.append(NewestRegular(regular))
    self._policy = policies.AnyPreservationPolicy(preserve)
    self._damaged: set[int] = set()
    self._open()

  def _open(self) -> None:
    """A collective of all processes."""
    several = jax.process_count() > 1
    self._barrier = together.Barrier() if several else None
    options = ocp.CheckpointManagerOptions(
      # An explicit policy: the default ones can delete the latest step.
      preservation_policy=self._policy,
      # What a killed run left; a living one's would go too: see `locks`.
      cleanup_tmp_directories=True,
      async_options=ocp.AsyncOptions(barrier_sync_fn=self._barrier),
    )
    self._manager = ocp.CheckpointManager(
      self.directory,
      options=options,
      item_handlers={
        "state": together.telling(
          ocp.StandardCheckpointHandler(), self.tell_failed
        ),
        "meta": together.telling(ocp.JsonCheckpointHandler(), self.tell_failed),
      },
    )

  def __enter__(self) -> "Checkpointer":
    return self

  def __exit__(self, kind, error, trace):
    if error is None:
      self.close()
    else:  # what a save in the background met comes second
      self._abandon()

  def steps(self) -> list[int]:
    """All committed steps, oldest first."""
    return sorted(self._manager.all_steps())

  def latest_step(self) -> int | None:
    """The newest step not known to be damaged."""
    sound = [s for s in self.steps() if s not in self._damaged]
    return sound[-1] if sound else None

  def save(self, step: int, state: Any, meta: dict, wait: bool = False):
    """Saves unboxed arrays and JSON metadata as one atomic commit.

    Returns once `state` may be donated; writing goes on in the background
    (`wait` waits for it). A kill at any moment leaves the earlier steps.

    Raises:
      CheckpointError: a leaf that is no array, metadata that is not JSON, or a
        step that is not after the latest one.
    """
    content = sealed(state, meta)
    self._set_damaged_aside()
    saved = self._manager.save(
      step,
      args=ocp.args.Composite(
        state=ocp.args.StandardSave(state, _in_pieces(state)),
        meta=ocp.args.JsonSave(content),
      ),
    )
    if not saved:  # Orbax says no more than False
      raise CheckpointError(
        f"Step {step} is not after step {self.latest_step()} in "
        f"{self.directory}; it was not saved."
      )
    if wait:
      self.wait()

  def restore(
    self, abstract: Any | Callable[[dict], Any], step: int | None = None
  ) -> tuple[Any, dict] | None:
    """The newest sound step as (state, meta); None where there is no step.

    Args:
      abstract: the state's structure with `jax.ShapeDtypeStruct` leaves or
        example arrays; their shardings may be of another mesh than the saved
        ones, and none means the first device (all, of several processes). Or
        a function of the metadata that returns it, for a state that depends
        on them; what it raises is passed on.
      step: exactly this one, without falling back.

    Raises:
      CheckpointError: the state has another structure, shape or dtype, or
        `step` does not exist.
      CheckpointDamaged: every step is damaged, or `step` is.
    """

    def load(number: int) -> tuple[Any, dict]:
      content = sound.read_content(self.directory / str(number))
      target = abstract(content["meta"]) if callable(abstract) else abstract
      target = sound.placed(target)
      sound.compare_structure(content["leaves"], sound.kinds(target), number)
      with sound.as_damage():
        restored = self._manager.restore(
          number,
          args=ocp.args.Composite(state=ocp.args.StandardRestore(target)),
        )
      sound.verify(restored["state"], content["leaves"])
      return restored["state"], content["meta"]

    self.wait()
    return sound.newest_sound(
      self.steps(), step, load, self.directory, self._damaged
    )

  def read_meta(self, step: int | None = None) -> dict:
    """The metadata of a step (default: the latest), without its arrays."""
    self.wait()
    step = self.latest_step() if step is None else step
    if step is None:
      raise CheckpointError(f"{self.directory} holds no checkpoint.")
    return sound.read_content(self.directory / str(step))["meta"]

  def set_aside_after(self, step: int) -> None:
    """Renames all steps after this one, which a run has gone back to."""
    self.wait()
    later = [s for s in self.steps() if s > step]
    self._set_aside(later, "rewound", "kept the checkpoint, gone back behind,")

  def wait(self):
    """Until everything saved is committed.

    Raises:
      PeerFailed: in another process; and whatever else went wrong.
    """
    self._manager.wait_until_finished()

  def is_saving(self) -> bool:
    """Whether something is still being written."""
    return self._manager.is_saving_in_progress()

  def reopen(self):
    """After a save that failed: removes what there is of it; all processes."""
    self._abandon()
    self._open()

  def tell_failed(self) -> None:
    """Tells the other processes that this one's part was not saved."""
    if self._barrier is not None:
      self._barrier.fail()

  def close(self):
    """Waits for what is being saved, and ends Orbax's threads."""
    self._manager.close()

  def _abandon(self):
    try:
      self._manager.close()
    except together.PeerFailed:
      pass
    except Exception as error:
      if storage.cause(error) is None:
        raise

  def _set_damaged_aside(self):
    """Renames damaged steps: Orbax refuses to save a step before an old one."""
    self._set_aside(
      sorted(self._damaged), "damaged", "kept the damaged checkpoint"
    )
    self._damaged.clear()

  def _set_aside(self, steps: Sequence[int], name: str, said: str) -> None:
    if not steps:
      return
    self.wait()
    if jax.process_index() == 0:
      for step in steps:
        path, n = self.directory / f"{name}_{step}", 1
        while path.exists():
          path, n = self.directory / f"{name}_{step}_{n}", n + 1
        (self.directory / str(step)).rename(path)
        sound.warn(f"{said} as {path}")
    if jax.process_count() > 1:
      from jax.experimental import multihost_utils

      multihost_utils.sync_global_devices("checkpoints aside")
    self._manager.reload()


def _in_pieces(state: Any) -> Any:
  """How Orbax is to store leaves: another mesh reads whole pieces of them.

  A device's part of a leaf would else be one piece, which each device that
  needs some of it reads and unpacks whole.
  """
  return jax.tree.map(lambda x: ocp.SaveArgs(chunk_byte_size=PIECE), state)


def save_params(
  directory: str | pathlib.Path, state: Mapping[str, Any], meta: dict
) -> None:
  """Writes host arrays as step 0 of a new directory, for `restore_params`.

  They are written from where they lie. `Checkpointer.save` copies them first,
  as its caller goes on training: for models that just fit, twice the memory.

  Raises:
    CheckpointError: as `Checkpointer.save`; or the directory holds a step.
  """
  content = sealed(state, meta)
  in_place = ocp.type_handlers.create_type_handler_registry(
    (np.ndarray, ocp.type_handlers.NumpyHandler(deepcopy_host_arrays=False)),
    (jax.Array, ocp.type_handlers.ArrayHandler()),
  )
  handlers = {
    "state": ocp.PyTreeCheckpointHandler(type_handler_registry=in_place),
    "meta": ocp.JsonCheckpointHandler(),
  }
  with ocp.CheckpointManager(
    pathlib.Path(directory).absolute(), item_handlers=handlers
  ) as manager:
    if manager.all_steps():
      raise CheckpointError(
        f"{directory} holds steps {manager.all_steps()} already; name a new "
        "directory."
      )
    manager.save(
      0,
      args=ocp.args.Composite(
        state=ocp.args.PyTreeSave(state, _in_pieces(state)),
        meta=ocp.args.JsonSave(content),
      ),
    )


def restore_params(
  directory: str | pathlib.Path,
  keys: Sequence[str] = ("params",),
  step: int | None = None,
  abstract: Mapping[str, Any] | None = None,
) -> tuple[dict[str, Any], dict]:
  """Only some top-level subtrees of a state, without its optimizer.

  Args:
    directory: what a `Checkpointer` wrote to. Nothing in it is changed.
    keys: names of the subtrees, nested dicts each.
    step: exactly this one; default: the newest sound one.
    abstract: key -> tree as for `Checkpointer.restore`; without it the leaves
      are numpy arrays.

  Returns:
    (key -> tree, meta).

  Raises:
    CheckpointError: no checkpoint, or one without these subtrees.
    CheckpointDamaged: every step is damaged, or `step` is.
  """
  directory = pathlib.Path(directory).absolute()
  load = lambda number: read_step(directory, number, keys, abstract)
  steps = sound.saved_steps(directory)
  found = sound.newest_sound(steps, step, load, directory, set())
  if found is None:
    raise CheckpointError(f"{directory} holds no checkpoint.")
  return found


def read_step(
  directory: pathlib.Path,
  step: int,
  keys: Sequence[str],
  abstract: Mapping[str, Any] | None = None,
) -> tuple[dict[str, Any], dict]:
  """What `restore_params` gives, of exactly one step.

  Says nothing of damage: whoever walks back over steps (`sound.newest_sound`)
  tells of each, once, however often it reads the step.

  Raises:
    CheckpointError: the step has no such subtrees, or is of another structure.
    CheckpointDamaged: its stored bytes are not what was saved.
  """
  content, leaves = sound.read_part(directory / str(step), keys)
  empty: dict[str, Any] = {key: {} for key in keys}  # all frozen, or nothing
  if not leaves:
    return empty, content["meta"]
  if abstract is None:
    item = rules.unflatten(
      {p: sound.abstract_leaf(k) for p, k in leaves.items()}
    )
    args = jax.tree.map(
      lambda _: ocp.RestoreArgs(restore_type=np.ndarray), item
    )
  else:
    item = sound.placed({key: abstract[key] for key in keys})
    sound.compare_structure(leaves, sound.kinds(item), step)
    args = ocp.checkpoint_utils.construct_restore_args(item)
  # A fresh checkpointer: a manager that restored the whole state cannot
  # restore a part of it.
  with sound.as_damage(), ocp.PyTreeCheckpointer() as checkpointer:
    tree = checkpointer.restore(
      directory / str(step) / "state",
      args=ocp.args.PyTreeRestore(
        item=item, restore_args=args, partial_restore=True
      ),
    )
  sound.verify(tree, leaves)
  return empty | tree, content["meta"]
