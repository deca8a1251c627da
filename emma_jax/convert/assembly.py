"""EMMA's first weights, put together from the published parts.

Und and Gen branch from Qwen3 (what the branches share comes once), vision tower
from SigLIP2 (the STEM expert is a copy of the versatile one), autoencoder from
DC-AE (paper section 6). Adapters, router, timestep embedding and velocity head
are new in EMMA and start at random, as a list that is given back and printed.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
import dataclasses
import os
import re
from typing import Any

import jax
import numpy as np

from emma_jax import rules
from emma_jax.convert import dcae, qwen3, siglip
from emma_jax.models.dcae import DcaeConfig
from emma_jax.models.emma import EmmaConfig
from emma_jax.models.initial import init_params
from emma_jax.models.llm import LlmConfig
from emma_jax.models.qwen3 import Qwen3Config
from emma_jax.models.siglip2_vision import SiglipVisionConfig

# What no published part has.
NEW = r"adapters/.*|heads/.*|vision/router/.*"


class AssemblyError(ValueError):
  """Parts that are not of the sizes the config asks for."""


@dataclasses.dataclass(frozen=True)
class Origin:
  """Where a subtree came from; `parameters` counts its elements."""

  subtree: str
  source: str
  parameters: int


def assemble(
  config: EmmaConfig,
  *,
  qwen3_folder: str | os.PathLike,
  siglip2_folder: str | os.PathLike,
  dcae_folder: str | os.PathLike,
  dtype: Any,
  key: jax.Array,
  say: Callable[[str], object] = print,
) -> tuple[dict, list[Origin]]:
  """All of EMMA's parameters, nested, and what came from where.

  All three folders are opened and compared with the config by their headers
  before the first tensor is read.

  The leaves are arrays on the host. Both branches' copies are views of the same
  memory, so the peak is about the size of the three parts.

  Args:
    config: the sizes; every part must have exactly these.
    qwen3_folder, siglip2_folder, dcae_folder: downloaded folders.
    dtype: of the parameters (latent/shift and latent/scale stay float32).
    key: of what is new.
    say: is told which defaults were taken where a config.json is silent.

  Raises:
    AssemblyError: a part of other sizes, with the list of differences.
    FolderError, ConfigError, ConversionError, BadValues: what is wrong with a
      folder (see the families).
  """
  llm = qwen3.open_folder(qwen3_folder, dtype)
  vision = siglip.open_folder(siglip2_folder, dtype)
  autoencoder = dcae.open_folder(dcae_folder, dtype)
  same_sizes(config, llm.config, vision.config, autoencoder.config)
  for told in filter(None, (llm.told, vision.told, autoencoder.told)):
    say(told)
  flat: dict[str, Any] = {}
  origins = []

  def add(leaves: Iterable[tuple[str, Any]], source: str) -> None:
    mine = dict(leaves)
    flat.update(mine)
    origins.extend(_origins(mine, source))

  add(_llm(config.llm, llm.leaves), str(qwen3_folder))
  add(_vision(config, vision.leaves), str(siglip2_folder))
  add(_autoencoder(autoencoder.leaves), str(dcae_folder))
  wanted = rules.flatten(
    jax.eval_shape(lambda: init_params(config, jax.random.key(0)))
  )
  new = [path for path in wanted if re.fullmatch(NEW, path)]
  add(_random(config, new, dtype, key).items(), "random (new in EMMA)")
  lacking = sorted(set(wanted) - set(flat))
  surplus = sorted(set(flat) - set(wanted))
  if lacking or surplus:
    raise AssemblyError(
      f"The parts leave {lacking} empty and bring {surplus} too many."
    )
  wrong = [
    f"{path}: {flat[path].shape}, the config says {want.shape}"
    for path, want in wanted.items()
    if flat[path].shape != want.shape
  ]
  if wrong:
    raise AssemblyError("Shapes do not fit:\n  " + "\n  ".join(wrong))
  return rules.unflatten(flat), origins


def _origins(leaves: Mapping[str, Any], source: str) -> list[Origin]:
  """One line per subtree of two levels; three in the decoder's stacks."""
  sums: dict[str, int] = {}
  for path, leaf in leaves.items():
    parts = path.split("/")
    depth = 3 if parts[1:2] in (["shallow"], ["deep"]) else 2
    name = "/".join(parts[:depth])
    sums[name] = sums.get(name, 0) + int(np.prod(leaf.shape))
  return [Origin(name, source, n) for name, n in sums.items()]


# Only training from scratch or speed depend on these.
_FREE = ("embed_std", "residual_gain", "scan_unroll", "remat", "attention")


def same_sizes(
  config: EmmaConfig,
  llm: Qwen3Config,
  vision: SiglipVisionConfig,
  autoencoder: DcaeConfig,
) -> None:
  """Compares the fields that decide what a network computes, of all parts.

  Raises:
    AssemblyError: with both values of each that differs.
  """
  parts = (
    ("Qwen3", llm, config.llm),
    ("SigLIP2", vision.encoder, config.vision.encoder),
    ("DC-AE", autoencoder, config.autoencoder),
  )
  wrong = [
    f"{part} has other sizes than the config's model:\n  " + "\n  ".join(lines)
    for part, found, wanted in parts
    if (lines := _differences(found, wanted))
  ]
  if wrong:
    raise AssemblyError(
      "\n".join(wrong) + "\nChange the config, or give another folder."
    )


def _differences(found: Any, wanted: Any) -> list[str]:
  lines = []
  for field in dataclasses.fields(found):
    name = field.name
    if name in _FREE or not hasattr(wanted, name):
      continue
    have, want = getattr(found, name), getattr(wanted, name)
    if have != want:
      lines.append(f"{name}: the folder has {have!r}, the config {want!r}")
  return lines


def _llm(
  c: LlmConfig, leaves: Iterable[tuple[str, np.ndarray]]
) -> Iterator[tuple[str, np.ndarray]]:
  norms = ("shared",) if c.final_norm_shared else ("und", "gen")
  for name, leaf in leaves:
    if name.startswith("layers/block/"):
      yield from branches(c, name.removeprefix("layers/block/"), leaf)
    elif name == "norm/scale":
      for branch in norms:
        yield f"llm/norm_{branch}/scale", leaf
    else:
      yield f"llm/{name}", leaf


def branches(
  c: LlmConfig, name: str, leaf: np.ndarray
) -> Iterator[tuple[str, np.ndarray]]:
  """A stacked leaf of Qwen3's blocks, such as "qk/q", in EMMA's tree."""
  part = name.split("/")[0]
  for stack, shared, layers in (
    ("shallow", c.shallow_shared, leaf[: c.num_shallow]),
    ("deep", c.deep_shared, leaf[c.num_shallow :]),
  ):
    if len(layers):
      for branch in ("shared",) if part in shared else ("und", "gen"):
        yield f"llm/{stack}/{branch}/{name}", layers


def und_branch(
  c: LlmConfig, llm: Mapping[str, Any]
) -> tuple[Qwen3Config, dict]:
  """(sizes, parameters of `Qwen3`) of the Und branch: undoes `branches`."""
  fields = [f.name for f in dataclasses.fields(Qwen3Config)]
  config = Qwen3Config(**{name: getattr(c, name) for name in fields})
  flat = rules.flatten(llm)
  norm = "norm_shared" if c.final_norm_shared else "norm_und"
  out = {"embed": flat["embed"], "norm/scale": flat[f"{norm}/scale"]}
  if not c.tie_embeddings:
    out["lm_head"] = flat["lm_head"]
  layers: dict[str, list] = {}
  for stack in ("shallow", "deep"):
    for path, leaf in flat.items():
      match = re.fullmatch(f"{stack}/(?:shared|und)/(.*)", path)
      if match:
        layers.setdefault(match[1], []).append(np.asarray(leaf))
  for name, parts in layers.items():
    out[f"layers/block/{name}"] = np.concatenate(parts)
  return config, rules.unflatten(out)


def _vision(
  config: EmmaConfig, leaves: Iterable[tuple[str, np.ndarray]]
) -> Iterator[tuple[str, Any]]:
  tower = siglip.to_tower(rules.unflatten(dict(leaves)), config.vision)
  for name, leaf in rules.flatten(tower).items():
    yield f"vision/{name}", leaf


def _autoencoder(
  leaves: Iterable[tuple[str, np.ndarray]],
) -> Iterator[tuple[str, np.ndarray]]:
  for name, leaf in leaves:
    yield f"autoencoder/{name}", leaf


def _random(config: EmmaConfig, names: list[str], dtype, key) -> dict[str, Any]:
  """The new leaves as a run from scratch would start them."""

  def some(key: jax.Array) -> dict[str, jax.Array]:
    flat = rules.flatten(init_params(config, key))
    return {name: flat[name].astype(dtype) for name in names}

  # Jitted: what is not asked for is never computed.
  return {k: np.asarray(x) for k, x in jax.jit(some)(key).items()}
