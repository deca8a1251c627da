"""A run's folder as the first release wrote it, and what its state is made of.

`data/checkpoint.tar.xz` is never made anew: later code has to read it, under
whatever names it keeps weights then. (python -m tests.goldens.checkpoint FOLDER
writes another one there, to look at.) The goldens are the paths, shapes and
dtypes of a state, by part, and what a save writes beside it.
"""

import functools
import io
from pathlib import Path
import sys
import tarfile
from typing import Any
import zlib

import jax
import ml_collections
import numpy as np

from configs import tiny as tiny_config
from emma_jax import optimizer, rules
from emma_jax.build import model as build_model
from emma_jax.checkpoints.integrity import checksums, kind_of, sealed
from emma_jax.training import state
from emma_jax.training.state import SavedState
from tests import neutral, tiny
from tests.goldens import store

ARCHIVE = store.DATA / "checkpoint.tar.xz"
STEP = 4
META = {
  "stage": "3_quality",
  "stage_step": 3,
  "data_position": 3,
  "fuse": [1, 2],
  "means": {"loss/total": [1.5, 2.0]},
  "fingerprints": {"tokenizer": "abc"},
  "config": {"name": "small", "model": {"kind": "emma"}},
}


def model() -> ml_collections.ConfigDict:
  """The micro EMMA with a vocabulary of eight."""
  return tiny.model(vocab_size=8)


@functools.cache
def abstract() -> SavedState:
  """Shapes of the state of the stage that trains all but the autoencoder."""
  stage = tiny_config.tiny_stages(model())["3_quality"]
  shapes = build_model.model(model()).shapes
  # The first release rounded all matrices that were frozen.
  matrices = [
    p for p, x in rules.flatten(shapes).items() if optimizer.decays(p, x)
  ]
  rounded = dict.fromkeys(matrices, "bfloat16")
  adam = optimizer.build(
    neutral.optimizer_config(learning_rate=1e-3, total_steps=9),
    stage.lr_multipliers,
  )
  return jax.eval_shape(
    lambda p: state.begin(p, stage.policy, adam, rounded).saved(), shapes
  )


def filled(tree: Any) -> Any:
  """Numbers that compress, other ones for every path."""

  def fill(keys, x):
    first = zlib.crc32(rules.path_of(keys).encode())
    values = (np.arange(np.prod(x.shape, dtype=int)) + first) % 7 + first % 5
    return (values / 8 - 0.5).astype(x.dtype).reshape(x.shape)

  return jax.tree_util.tree_map_with_path(fill, tree)


def unpack(folder: Path) -> Path:
  """The run's folder, checked out below `folder`."""
  with tarfile.open(ARCHIVE) as archive:
    archive.extractall(folder, filter="data")
  return folder / "run"


def cases() -> dict[str, dict]:
  flat = rules.flatten(filled(abstract()))
  parts: dict[str, list[str]] = {}
  for path, x in flat.items():
    depth = 4 if path.startswith("opt_state") else 2
    parts.setdefault("/".join(path.split("/")[:depth]), []).append(
      f"{path} {kind_of(path, x)}"
    )
  stored = sealed(filled(abstract()), META)
  names = checksums(
    {
      "a": np.arange(6, dtype=np.int8).reshape(2, 3),
      "b": np.float32([[1.5, -2.0]]),
      "c": np.bool_(True),
    }
  )
  return {
    "state": {
      part: f"{len(lines)} {store.digest(chr(10).join(lines))}"
      for part, lines in parts.items()
    },
    "beside": {
      "keys": ",".join(sorted(stored)),
      "roots": ",".join(stored["roots"]),
      "meta": ",".join(sorted(stored["meta"])),
      "sha256": stored["sha256"],
    },
    "checksums": names,
  }


def write(folder: Path) -> None:
  """A run's folder and its archive, in today's format."""
  with neutral.checkpointer(folder / "run" / "checkpoints") as saved:
    saved.save(STEP, filled(abstract()), META, wait=True)
  packed = io.BytesIO()
  with tarfile.open(fileobj=packed, mode="w:xz", preset=9) as archive:
    archive.add(folder / "run", "run", filter=_anonymous)
  (folder / ARCHIVE.name).write_bytes(packed.getvalue())


def _anonymous(info: tarfile.TarInfo) -> tarfile.TarInfo:
  info.uid = info.gid = info.mtime = 0
  info.uname = info.gname = ""
  return info


if __name__ == "__main__":
  write(Path(sys.argv[1]))
