"""Checkpoints that are read: newest first, by structure and checksum."""

from collections.abc import Callable, Iterator, Mapping, Sequence
import contextlib
import json
import pathlib
import re
import sys
from typing import Any

import jax
import numpy as np

from emma_jax import rules, storage
from emma_jax.checkpoints.integrity import (
  CheckpointDamaged,
  CheckpointError,
  checksums,
  digest,
  kind_of,
)
from emma_jax.checkpoints.renamed_keys import current_meta


def warn(text: str) -> None:
  """Says on stderr what was found wrong, and what is done about it."""
  print(f"WARNING: {text}", file=sys.stderr, flush=True)


def saved_steps(directory: pathlib.Path) -> list[int]:
  """All steps in a run's folder of checkpoints, oldest first."""
  return sorted(int(p.name) for p in directory.glob("*") if p.name.isdigit())


def newest_sound(
  steps: Sequence[int],
  step: int | None,
  load: Callable[[int], Any],
  directory: pathlib.Path,
  damaged: set[int],
) -> Any:
  """`load` of the newest step that is not damaged; None without steps.

  Args:
    steps: all there are, oldest first.
    step: exactly this one; None: the newest, and on damage the one before.
    load: of a step; raises CheckpointDamaged, and nothing is told of it there.
    directory: of the steps, for what is said.
    damaged: gets the steps that are.

  Raises:
    CheckpointError: there is no such step.
    CheckpointDamaged: all are damaged, or `step` is.
  """
  if step is not None and step not in steps:
    raise CheckpointError(
      f"{directory} holds no step {step}, only {steps or 'nothing'}."
    )
  for number in reversed(steps) if step is None else [step]:
    result, error = None, None
    try:
      result = load(number)
    except CheckpointDamaged as e:
      error = e
    if not all_agree(error is None):
      damaged.add(number)
      warn(
        f"checkpoint {directory / str(number)} is damaged: "
        f"{error or 'another process says so'}. It is left as it is."
      )
      continue
    if number != (steps[-1] if step is None else step):
      warn(f"went back to the checkpoint of step {number}")
    return result
  if steps:
    raise CheckpointDamaged(
      f"No sound checkpoint in {directory}: tried "
      f"{list(reversed(steps)) if step is None else step}. Restore a copy, "
      "or start in a new working directory."
    )
  return None


def all_agree(good: bool) -> bool:
  """All processes fall back together, or they would train different steps."""
  if jax.process_count() == 1:
    return good
  from jax.experimental import multihost_utils

  return bool(np.all(multihost_utils.process_allgather(np.int32(good))))


@contextlib.contextmanager
def as_damage() -> Iterator[None]:
  """What Orbax raises once the structure is known to fit means damage."""
  try:
    yield
  except Exception as error:  # pylint: disable=broad-except
    raise CheckpointDamaged(storage.in_words(error)) from error


def read_content(path: pathlib.Path) -> dict:
  """What `sealed` wrote beside a step's arrays, its config by today's names.

  Raises:
    CheckpointDamaged: it cannot be read, or is not what was written.
  """
  with as_damage():
    content = json.loads((path / "meta" / "metadata").read_text("utf-8"))
    stored = content.pop("sha256")
  if stored != digest(content):
    raise CheckpointDamaged("the metadata does not match its checksum")
  return content | {"meta": current_meta(content["meta"])}


def read_part(
  path: pathlib.Path, keys: Sequence[str]
) -> tuple[dict, dict[str, Any]]:
  """(a step's content, the leaves among it of these top-level subtrees).

  Raises:
    CheckpointError: the step has no such subtrees.
    CheckpointDamaged: as `read_content`.
  """
  content = read_content(path)
  missing = [key for key in keys if key not in content["roots"]]
  if missing:
    raise CheckpointError(
      f"Step {path.name} holds {content['roots']}, not {missing}."
    )
  leaves = {
    name: entry
    for name, entry in content["leaves"].items()
    if name.split("/")[0] in keys
  }
  return content, leaves


def placed(abstract: Any) -> Any:
  """Gives every leaf a sharding; Orbax would else look for the saved one."""
  default: jax.sharding.Sharding
  default = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
  if jax.process_count() > 1:
    # One array of all processes, or each would sum up a copy of its own.
    mesh = jax.sharding.Mesh(np.array(jax.devices()), ("all",))
    default = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())

  def place(x: Any) -> jax.ShapeDtypeStruct:
    sharding = getattr(x, "sharding", None) or default
    return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding)

  return jax.tree.map(place, abstract)


def kinds(tree: Any) -> dict[str, str]:
  """Path -> "dtype[shape]" of each leaf."""
  return {p: kind_of(p, leaf) for p, leaf in rules.flatten(tree).items()}


def abstract_leaf(entry: str) -> jax.ShapeDtypeStruct:
  """The leaf of a checksum entry: "float32[2,3]:..." -> float32[2,3]."""
  match = re.fullmatch(r"(\w+)\[([\d,]*)\]:\w+", entry)
  assert match is not None  # the metadata, that hold it, match their checksum
  dtype, shape = match.groups()
  return jax.ShapeDtypeStruct(
    [int(n) for n in shape.split(",") if n], jax.numpy.dtype(dtype)
  )


def compare_structure(stored: Mapping, wanted: Mapping, step: int) -> None:
  """Raises CheckpointError, with both sides, unless all leaves are alike.

  `stored`: path -> entry with checksum; `wanted`: path -> kind.
  """
  stored = {path: entry.rsplit(":", 1)[0] for path, entry in stored.items()}
  lines = [
    f"{path}: checkpoint {stored.get(path, 'nothing')}, "
    f"program {wanted.get(path, 'nothing')}"
    for path in sorted(stored.keys() | wanted.keys())
    if stored.get(path) != wanted.get(path)
  ]
  if lines:
    more = f"\n  and {len(lines) - 12} more" if len(lines) > 12 else ""
    raise CheckpointError(
      f"The checkpoint of step {step} does not fit the program:\n  "
      + "\n  ".join(lines[:12])
      + more
    )


def verify(tree: Any, leaves: Mapping[str, str]) -> None:
  """Raises CheckpointDamaged where a leaf has another checksum than stored."""
  compare(checksums(tree), leaves)


def compare(found: Mapping[str, str], leaves: Mapping[str, str]) -> None:
  """`verify`, of checksums that are known."""
  bad = [path for path in leaves if found.get(path) != leaves[path]]
  if bad:
    raise CheckpointDamaged(
      f"wrong checksum of {', '.join(bad[:4])}"
      + (f" and {len(bad) - 4} more" if bad[4:] else "")
    )
