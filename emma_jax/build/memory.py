"""Whether a run, or weights, fit the devices: asked before anything is read.

What is compared are bytes that a device holds for certain, a lower bound: so
nothing that fits is refused, and what is let pass may still be too large by the
rest of its activations. `emma-plan` compiles a program and knows all of it.
"""

from collections.abc import Mapping, Sequence
import dataclasses
import math
import os
import pathlib
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from emma_jax import rules, sharding
from emma_jax.build import model as build_model
from emma_jax.build.sections import TooLittleMemory
from emma_jax.checkpoints import sound
from emma_jax.planner import chips

if TYPE_CHECKING:  # whoever only samples loads no training
  from emma_jax.training.run import Run, Stage

_GIB = 2**30


@dataclasses.dataclass(frozen=True, kw_only=True)
class Room:
  """What a device can hold, in bytes, and how that is called."""

  size: int
  name: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Need:
  """What a device has to hold at once, in bytes.

  held: by kind, all of it from the first step to the last.
  passing: by kind, of which no more than one is sure to be there at a time.
  """

  held: Mapping[str, int]
  passing: Mapping[str, int]

  @property
  def size(self) -> int:
    """At least."""
    return sum(self.held.values()) + max(self.passing.values(), default=0)

  def __str__(self) -> str:
    kinds = [*self.held.items(), *self.passing.items()]
    return ", ".join(f"{kind} {_gib(n)}" for kind, n in kinds if n)


def _gib(size: int) -> str:
  return f"{size / _GIB:.1f} GiB"


# ------------------------------------------------------------------ devices


def room(devices: Sequence[jax.Device]) -> Room | None:
  """What the smallest of these devices can hold; None: nothing tells.

  Of a GPU or TPU what JAX may use of it, else what its kind is known to have.
  On CPUs the machine's memory that nobody uses, swap included, which the
  devices of this process share.
  """
  here = [d for d in devices if d.process_index == jax.process_index()]
  found = [_of_device(d, len(here)) for d in here]
  known = [one for one in found if one is not None]
  return min(known, key=lambda one: one.size, default=None)


def _of_device(device: jax.Device, sharing: int) -> Room | None:
  if device.platform == "cpu":
    free = machine()
    size, name = None if free is None else free // sharing, "this machine"
  else:
    stats, name = device.memory_stats() or {}, device.device_kind
    whole = chips.usable_bytes(name)
    size = stats.get("bytes_limit") or whole
    if device.platform == "gpu" and size and whole and size < 0.9 * whole:
      share = f"JAX takes {size / whole:.0%}: XLA_PYTHON_CLIENT_MEM_FRACTION"
      name = f"{name} ({share})"
  return None if size is None else Room(size=size, name=name)


def machine(root: pathlib.Path = pathlib.Path("/")) -> int | None:
  """Bytes that a process can still get of this machine's memory and swap.

  None: it is no Linux. `root`: in whose proc/ and sys/ to look.
  """
  try:
    lines = (root / "proc/meminfo").read_text().splitlines()
    table = {k: int(v.split()[0]) for k, v in (x.split(":") for x in lines)}
    free = 1024 * (table["MemAvailable"] + table.get("SwapFree", 0))
  except (OSError, KeyError, ValueError):
    return None
  return min([free, *_of_groups(root)])


# Files of a group's limit and use, and what its counters begin with.
_GROUP_V1 = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_")
_GROUP_V2 = ("memory.max", "memory.current", "")


def _of_groups(root: pathlib.Path) -> list[int]:
  """What the control groups of this process leave it, as containers have it."""
  try:
    lines = (root / "proc/self/cgroup").read_text().splitlines()
  except OSError:
    return []
  out = []
  for line in lines:
    _, kinds, path = line.split(":", 2)
    if kinds and "memory" not in kinds.split(","):
      continue
    base = root / "sys/fs/cgroup" / ("memory" if kinds else "")
    names = _GROUP_V1 if kinds else _GROUP_V2
    # Every group above counts too; in a container the path may not be there.
    group = base / path.strip("/")
    for folder in (group, *group.parents):
      out += _left(folder, *names)
      if folder == base:
        break
  return out


def _left(
  folder: pathlib.Path, limit: str, used: str, prefix: str
) -> list[int]:
  """Bytes below one group's limit; files that are cached are given back."""
  try:
    most = int((folder / limit).read_text())
    now = int((folder / used).read_text())
    stat = (folder / "memory.stat").read_text().split()
    cached = dict(zip(stat[::2], map(int, stat[1::2])))
  except (OSError, ValueError):  # "max" is no number: there is no limit
    return []
  files = sum(
    cached.get(f"{prefix}{kind}", 0)
    for kind in ("inactive_file", "active_file")
  )
  return [max(most - now + files, 0)]


# ----------------------------------------------------------------- training


def check_training(run: "Run", first: str | None = None) -> None:
  """Compares the stages of a run with the devices of its mesh.

  Args:
    run: with or without its data.
    first: the stage to go on with; None: all are to come.

  Raises:
    TooLittleMemory: a stage does not fit.
    ConfigError: the mesh does not.
  """
  from emma_jax.build import data as build_data

  mesh = build_data.mesh_of(run.config)
  found = room(list(mesh.devices.flat))
  if found is None:
    return
  names = [stage.name for stage in run.stages]
  start = names.index(first) if first in names else 0
  for stage in run.stages[start:]:
    need = of_stage(run, stage, mesh)
    if need.size > found.size:
      raise TooLittleMemory(_of_training(run, stage, need, found, mesh.size))


def of_stage(run: "Run", stage: "Stage", mesh: jax.sharding.Mesh) -> Need:
  """What a device holds in a step of a stage, at least."""
  from emma_jax.training.step import abstract_batch, abstract_state

  state = abstract_state(run, stage, mesh)
  trained = bytes_of(state.trained)
  held = {
    "parameters": trained + bytes_of(state.frozen),
    "moments": bytes_of(state.opt_state),
    "average": bytes_of(state.ema),
    "batch": bytes_of(abstract_batch(stage.layout, mesh)),
  }
  passing = {"activations": _activations(run, stage, mesh)}
  if stage.accumulation > 1:
    held["sums of gradients"] = trained
  elif stage.optimizer.clip_norm:
    # All have to be there before one is used. Those of weights that are used
    # in bfloat16 may stay in it.
    passing["gradients"] = trained // 2
  return Need(held=held, passing=passing)


def bytes_of(tree: Any) -> int:
  """Of arrays or their shapes, on one device; what has no place lies whole."""
  total = 0
  for x in jax.tree.leaves(tree):
    place = getattr(x, "sharding", None)
    shape = x.shape if place is None else place.shard_shape(x.shape)
    total += math.prod(shape) * x.dtype.itemsize
  return total


# Paths whose gradient runs through all blocks of the LLM, or through the deep
# ones alone.
_BEFORE = ("vision/", "adapters/", "llm/embed", "llm/shallow/")
_DEEP = "llm/deep/"


def _activations(run: "Run", stage: "Stage", mesh: jax.sharding.Mesh) -> int:
  """What enters each of the LLM's blocks that gradients run through.

  Whatever is recomputed, that is kept for the way back, as the blocks are a
  loop. Of one micro-batch.
  """
  from emma_jax.training import objectives
  from emma_jax.training.step import abstract_batch

  if not isinstance(stage.objective, objectives.EmmaObjective):
    return 0
  c = stage.objective.model.config
  policy = rules.resolve(stage.policy, rules.flatten(run.shapes), "policy")
  moved = [path for path, kind in policy.items() if kind == "train"]
  layers = 0
  if any(path.startswith(_BEFORE) for path in moved):
    layers = c.llm.num_layers
  elif any(path.startswith(_DEEP) for path in moved):
    layers = c.llm.num_layers - c.llm.num_shallow
  batch: Any = abstract_batch(stage.layout, mesh)
  tokens = 0
  for ids in (batch.und_ids.segment, batch.gen_ids.segment):
    tokens += math.prod(ids.sharding.shard_shape(ids.shape))
  width = c.llm.width * jnp.dtype(c.dtype).itemsize
  # Devices that share rows may split what is kept of them.
  return layers * width * tokens // (stage.accumulation * mesh.shape["tensor"])


def _of_training(
  run: "Run", stage: "Stage", need: Need, found: Room, devices: int
) -> str:
  """Value and remedy of a stage that does not fit."""
  state = sum(need.held[k] for k in ("parameters", "moments", "average"))
  split = dataclasses.asdict(run.mesh)
  remedies = []
  if state > found.size / 2:
    count = math.ceil(1.25 * need.size * devices / found.size)
    remedies.append(
      f"split the weights over about {count} such devices"
      f" (config.mesh.fsdp, now {split['fsdp']})"
    )
  if not stage.frozen_dtypes and need.held["parameters"] > found.size / 10:
    remedies.append(
      "keep frozen weights in bfloat16 (config.train.frozen_dtype)"
    )
  if need.size - state > found.size / 10:
    remedies.append(
      f"take fewer rows a device (config.stages.{stage.name}.rows, now"
      f" {stage.layout.rows} over {devices}) or more micro-batches"
      f" (accumulation, now {stage.accumulation})"
    )
  return (
    f"Stage {stage.name} needs at least {_gib(need.size)} on each of {devices}"
    f" devices, and {found.name} has {_gib(found.size)} for one: {need}. "
    f"{_sentence(remedies)} `emma-plan --stage {stage.name} --topology"
    " KIND:SIZE` with this config tells whether a machine is large enough."
  )


def _sentence(remedies: Sequence[str]) -> str:
  text = "; ".join([*remedies, "or take a larger machine."])
  return text[0].upper() + text[1:]


def stage_under_way(folder: str | os.PathLike) -> str | None:
  """The stage of the newest checkpoint of a run's folder; None without one."""
  from emma_jax.checkpoints import checkpointer

  directory = pathlib.Path(folder).absolute() / "checkpoints"
  try:
    steps = sound.saved_steps(directory)
    _, meta = checkpointer.read_step(directory, max(steps), ())
  except Exception:  # whoever reads it says what is wrong with it
    return None
  return meta.get("stage")


# ----------------------------------------------------------------- sampling


def check_sampling(
  config: Mapping[str, Any],
  name: str,
  *,
  mesh: jax.sharding.Mesh | None = None,
  dtype: str = "float32",
) -> None:
  """Compares a model's weights and the devices that are to sample with them.

  Args:
    config: to sample with.
    name: what to call the weights.
    mesh: over which they are split; None: whole on the first device.
    dtype: that those are kept in which are rounded to it before every use; the
      others are float32.

  Raises:
    TooLittleMemory: they do not fit.
  """
  devices = jax.local_devices()[:1] if mesh is None else [*mesh.devices.flat]
  found, section = room(devices), config["model"]
  # The exact number takes a second.
  if found is None or 4 * most_weights(section) <= found.size:
    return
  need = _weights(section, mesh, dtype)
  if need <= found.size:
    return
  remedies = ["split them over more devices (--config.mesh.fsdp)"]
  if dtype == "float32":
    remedies.append("keep them in bfloat16 (--dtype bfloat16)")
  raise TooLittleMemory(
    f"The weights of {name} need {_gib(need)} on a device, and {found.name} has"
    f" {_gib(found.size)} for one. {_sentence(remedies)}"
    " `emma-plan --what sample` with its config tells what a machine needs."
  )


def most_weights(section: Mapping[str, Any]) -> int:
  """More numbers than the weights of `config.model` are, without tracing it."""
  total = _most_of_autoencoder(section["autoencoder"])
  if section["kind"] != "emma":
    return total
  llm, vision = section["llm"], section["vision"]
  wide, eye = llm["width"], vision["encoder"]
  heads = (llm["num_heads"] + llm["num_kv_heads"]) * llm["head_dim"]
  block = 2 * wide * heads + 3 * wide * llm["mlp_width"] + 8 * wide
  total += 2 * llm["num_layers"] * block + 2 * llm["vocab_size"] * wide
  extra = len(vision["extra_experts"])
  blocks = eye["num_layers"] + (1 + extra) * vision["num_expert_layers"]
  seen = eye["width"]
  total += blocks * (4 * seen + 2 * eye["mlp_width"] + 16) * (seen + 1)
  cells = eye["native_grid"] ** 2 + 3 * eye["patch_size"] ** 2
  total += (cells + 2 * vision["router_width"] + 8) * (seen + 2)
  # Adapters, the velocity head and the time: a few matrices of their inputs.
  latent, time = section["autoencoder"]["latent_channels"], section["fusion"]
  inputs = 4 * seen + 2 * latent + time["time_channels"]
  return total + 4 * (inputs + 2 * wide + 8) * (wide + 8)


def _most_of_autoencoder(section: Mapping[str, Any]) -> int:
  if section["kind"] != "dcae":
    alone = {"kind": "autoencoder", "dtype": "float32", "autoencoder": section}
    shapes = rules.flatten(build_model.model(alone).shapes)
    return sum(math.prod(x.shape) for x in shapes.values())
  total = 0
  for side in ("encoder", "decoder"):
    wide = section[f"{side}_block_out_channels"]
    counts = section[f"{side}_layers_per_block"]
    kernels = 8 + sum(map(len, section[f"{side}_qkv_multiscales"]))
    largest = max(*wide, section["attention_head_dim"])
    total += sum(n * 64 * c * (c + kernels) for n, c in zip(counts, wide))
    total += len(wide) * 36 * largest * largest
  return total + 100 * section["latent_channels"] * largest


def _weights(
  section: Mapping[str, Any], mesh: jax.sharding.Mesh | None, dtype: str
) -> int:
  """Bytes of `config.model`'s weights on a device."""
  model = build_model.model(section)
  places = sharding.weights(model.shapes, model.axes, mesh) if mesh else {}
  kept = {p: d for p, d in model.rounded_to.items() if d == dtype}
  return bytes_of(
    {
      path: jax.ShapeDtypeStruct(
        x.shape, kept.get(path, x.dtype), sharding=places.get(path)
      )
      for path, x in rules.flatten(model.shapes).items()
    }
  )
