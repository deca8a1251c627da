"""A whole EMMA as a folder that plain PyTorch runs, and back, bit for bit.

The folder holds model.safetensors (or shards), config.json, tokenizer.json and
`emma_torch/`, which needs nothing of ours. Names are our paths with dots;
stacked layers are numbered; layouts are torch's: Linear (out, in), convolution
(out, in / groups, rows, columns).

  llm/shallow/shared/qk/q (Z, D, H, E) -> llm.shallow.0.shared.qk.q.weight, ...
  autoencoder/encoder/conv_out/kernel  -> autoencoder.encoder.conv_out.weight
"""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
import functools
import json
import math
import os
import pathlib
import re
from typing import Any

import einops
import jax
import numpy as np

from emma_jax import rules
from emma_jax.build import model as build_model
from emma_jax.build import sections
from emma_jax.convert import emma_config, table
from emma_jax.convert.emma_config import FORMAT, ROUTES
from emma_jax.convert.files import Folder, write_folder
from emma_jax.models.adapters import FusionConfig
from emma_jax.models.dcae import DcaeConfig
from emma_jax.models.emma import EmmaConfig
from emma_jax.models.experts import TowerConfig
from emma_jax.models.initial import init_params
from emma_jax.models.llm import LlmConfig
from emma_jax.models.siglip2 import SiglipConfig

IMPLEMENTATION = "emma_torch"  # a package, copied as it stands here
TOKENIZER = "tokenizer.json"
# What emma_torch needs of a run's config beside the model.
_DATA = (
  "height",
  "width",
  "native",
  "min_tokens",
  "max_tokens",
  "codec",
  "fit",
  "max_crop",
  "buckets",
)
_SAMPLE = (
  "steps",
  "shift",
  "text_guidance",
  "edit_text_guidance",
  "edit_image_guidance",
  "max_tokens",
)
# Fields of the model's config that emma_torch reads, and those that change
# nothing it computes. A model with another one is refused.
_HONOURED = {
  LlmConfig: """vocab_size width mlp_width num_layers num_heads num_kv_heads
        head_dim rope_theta norm_eps tie_embeddings num_shallow shallow_shared
        deep_shared final_norm_shared embed_std residual_gain scan_unroll
        remat attention""",
  TowerConfig: """encoder experts num_expert_layers router_width
        router_threshold""",
  SiglipConfig: """width mlp_width num_layers num_heads patch_size native_grid
        norm_eps num_channels position_resize scan_unroll remat
        attention""",
  DcaeConfig: """in_channels latent_channels attention_head_dim
        downsample_block_type upsample_block_type encoder_out_shortcut
        decoder_in_shortcut decoder_norm_types decoder_act_fns
        decoder_conv_act_fn residual_gain
        encoder_block_types decoder_block_types
        encoder_block_out_channels decoder_block_out_channels
        encoder_layers_per_block decoder_layers_per_block
        encoder_qkv_multiscales decoder_qkv_multiscales""",
  FusionConfig: """mode reference_branch position_base position_scale
        time_channels time_scale norm_eps""",
  EmmaConfig: "llm vision autoencoder fusion dtype",
}


class ExportError(ValueError):
  """A model or folder that cannot be converted; the message has the remedy."""


# ---------------------------------------------------------------- name table


def _matrix(shape: Sequence[int], inputs: int) -> tuple:
  """(in ..., out ...) with `inputs` input axes <-> Linear (out, in)."""
  rows = math.prod(shape[:inputs])
  return lambda x: x.reshape(rows, -1).T, lambda y: y.T.reshape(shape)


def _convolution(shape: Sequence[int]) -> tuple:
  """HWIO <-> OIHW."""
  return (lambda x: x.transpose(3, 2, 0, 1), lambda y: y.transpose(2, 3, 1, 0))


def _pointwise(shape: Sequence[int]) -> tuple:
  """(in, out) <-> a 1x1 convolution (out, in, 1, 1)."""
  return lambda x: x.T[:, :, None, None], lambda y: y[:, :, 0, 0].T


def _depthwise(shape: Sequence[int]) -> tuple:
  """(rows, columns, C) <-> (C, 1, rows, columns)."""
  return (
    lambda x: x.transpose(2, 0, 1)[:, None],
    lambda y: y[:, 0].transpose(1, 2, 0),
  )


def _grouped(shape: Sequence[int]) -> tuple:
  """(groups, in, out) <-> a grouped 1x1 convolution (groups out, in, 1, 1)."""
  return (
    lambda x: einops.rearrange(x, "g i o -> (g o) i 1 1"),
    lambda y: einops.rearrange(y, "(g o) i 1 1 -> g i o", g=shape[0]),
  )


def _same(shape: Sequence[int]) -> tuple:
  return table.same, table.same


_linear = functools.partial(_matrix, inputs=1)
# Path of a leaf (without the layer) -> its name, and its layout; the first
# pattern that matches counts.
_NAMES = (
  (r"(autoencoder/latent/(?:shift|scale))", r"\1", _same),
  (
    r"(autoencoder/.*/(?:inverted|point|to_\w+))/kernel",
    r"\1/weight",
    _pointwise,
  ),
  (r"(autoencoder/.*/(?:depth|filter))/kernel", r"\1/weight", _depthwise),
  (r"(autoencoder/.*/scale\d+)/kernel", r"\1/weight", _grouped),
  (r"(autoencoder/.*|vision/embed)/kernel", r"\1/weight", _convolution),
  (r"(autoencoder/.*)/(mean|var)", r"\1/running_\2", _same),
  (r"(vision/embed/position|adapters/gen/null_semantic)", r"\1", _same),
  (r"(llm/.*/o)/kernel", r"\1/weight", functools.partial(_matrix, inputs=2)),
  (r"(llm/.*/(?:qk/[qk]|mlp/(?:gate|up|down)))", r"\1/weight", _linear),
  (r"(llm/(?:embed|lm_head)|llm/.*/[qk]_norm)", r"\1/weight", _same),
  (r"(.*)/kernel", r"\1/weight", _linear),
  (r"(.*)/scale", r"\1/weight", _same),
  (r"(.*/bias)", r"\1", _same),
)
_STACKED = re.compile(
  r"(llm/(?:shallow|deep)|vision/(?:lower|versatile|stem))/(.*)"
)


def entries(config: EmmaConfig) -> tuple[table.Entry, ...]:
  """The name table of a whole EMMA, in the order of our tree."""
  return tuple(
    _entry(path, tuple(leaf.shape)) for path, leaf in shapes(config).items()
  )


def theirs(config: EmmaConfig) -> dict[str, tuple[int, ...]]:
  """Name in PyTorch -> shape of every tensor."""
  out: dict[str, tuple[int, ...]] = {}
  for entry, leaf in zip(entries(config), shapes(config).values()):
    # A zero seen as a whole leaf: no memory, and the shape theirs has.
    zero = np.broadcast_to(
      np.int8(0), leaf.shape[1:] if entry.stacked else leaf.shape
    )
    out |= dict.fromkeys(entry.theirs, entry.to_theirs(zero).shape)
  return out


def shapes(config: EmmaConfig) -> dict[str, jax.ShapeDtypeStruct]:
  """Slash path -> shape of every parameter."""
  return rules.flatten(
    jax.eval_shape(lambda: init_params(config, jax.random.key(0)))
  )


def _entry(path: str, shape: tuple[int, ...]) -> table.Entry:
  stacked = _STACKED.fullmatch(path)
  name, layout = _named(path)
  to_theirs, to_ours = layout(shape[1:] if stacked else shape)
  names: tuple[str, ...] = (name,)
  if stacked:
    stack = stacked[1]
    names = tuple(f"{stack}/{i}{name[len(stack) :]}" for i in range(shape[0]))
  return table.Entry(
    path,
    tuple(n.replace("/", ".") for n in names),
    to_ours,
    to_theirs,
    stacked=bool(stacked),
  )


def _named(path: str) -> tuple:
  for pattern, name, layout in _NAMES:
    match = re.fullmatch(pattern, path)
    if match:
      return match.expand(name), layout
  raise ExportError(f"{path} has no name in PyTorch; add it to the table.")


# ------------------------------------------------------------------- config


def model_config(model: Mapping[str, Any]) -> EmmaConfig:
  """The sizes in a run's config section `model`.

  Raises:
    ExportError: no EMMA, or keys of another version.
  """
  if model.get("kind") != "emma":
    raise ExportError(
      f"model.kind={model.get('kind')!r}: only a whole EMMA is exported here;"
      " an autoencoder goes to diffusers."
    )
  try:
    return build_model.emma_config(model)
  except sections.ConfigError as error:
    raise ExportError(str(error)) from error
  except (AttributeError, KeyError, TypeError, ValueError) as error:
    raise ExportError(f"config.model: {error!r}.") from error


def _check_supported(part: Any) -> None:
  """Raises ExportError for a field that emma_torch would not follow."""
  honoured = _HONOURED[type(part)].split()
  for field in dataclasses.fields(part):
    value = getattr(part, field.name)
    if field.name in honoured:
      if type(value) in _HONOURED:
        _check_supported(value)
    else:
      raise ExportError(
        f"{type(part).__name__}.{field.name}={value!r} is not implemented in"
        f" {IMPLEMENTATION}; models that have it cannot be exported."
      )


def _check_run(config: Mapping[str, Any]) -> None:
  for section, keys in (("data", _DATA), ("sample", _SAMPLE)):
    missing = [key for key in keys if key not in config.get(section, {})]
    if missing:
      raise ExportError(
        f"config.{section} lacks {missing}, which sampling needs."
      )
  codec = config["data"]["codec"]
  if codec != "pillow":
    raise ExportError(
      f"config.data.codec={codec!r}: emma_torch reads pictures by "
      "Pillow, so the model would see others than in training. Fine-tune "
      "some steps with codec=pillow first."
    )


# ---------------------------------------------------------------- tokenizer


def _tokenizer_file(tokenizer: Any) -> bytes:
  """What is written as tokenizer.json.

  Args:
    tokenizer: the path of a Hugging Face tokenizer.json, which is copied; or
      the world's own tokenizer, of which the vocabulary is written: ids of the
      specials, 256 bytes from `first` on, then `pieces`.
  """
  if isinstance(tokenizer, (str, os.PathLike)):
    return pathlib.Path(tokenizer).read_bytes()
  first = tokenizer.encode("\0")[0]
  pieces = [
    tokenizer.decode([i]) for i in range(first + 256, tokenizer.vocab_size)
  ]
  while pieces and not pieces[-1]:  # unused places
    pieces.pop()
  for i, piece in enumerate(pieces):
    if tokenizer.encode(piece) != [first + 256 + i]:
      raise ExportError(
        f"Id {first + 256 + i} ({piece!r}) is not what a longest match over"
        " pieces gives; export this tokenizer by its tokenizer.json."
      )
  content = {
    "special": dict(tokenizer.special),
    "first": first,
    "pieces": pieces,
  }
  text = json.dumps(content, ensure_ascii=False, indent=1) + "\n"
  return text.encode()


# ---------------------------------------------------------- export and import


@dataclasses.dataclass(frozen=True, eq=False)
class Exported:
  """What a folder holds: `save` and `load` are inverses.

  config: all sections of the run's config, as JSON gives them, by today's keys.
  params: nested dicts of numpy arrays.
  step: how long the weights were trained.
  route: the expert understanding pictures take.
  """

  config: dict
  params: dict
  step: int
  route: str


def save(
  path: str | os.PathLike,
  config: Mapping[str, Any],
  params: Mapping[str, Any],
  tokenizer: Any,
  *,
  step: int = 0,
  route: str = "versatile",
) -> None:
  """Writes weights, config, tokenizer and `emma_torch/` into a folder.

  Args:
    path: the folder, made if missing.
    config: a run's config (its sections model, data and sample are used).
    params: nested dicts of arrays, stored in their dtypes.
    tokenizer: see `_tokenizer_file`.
    step: kept for whoever reads it.
    route: the expert understanding pictures take: "versatile", "stem" or
      "router" (once it is trained).

  Raises:
    ExportError: what emma_torch does not implement.
    table.ConversionError: parameters that do not belong to the config.
    FolderError: the folder holds weights already.
  """
  config = sections.plain(config)
  sizes = model_config(config["model"])
  _check_supported(sizes)
  _check_run(config)
  if route not in (ROUTES if sizes.vision.experts else ROUTES[:1]):
    raise ExportError(f"{route=} is no expert of this model.")
  tensors = table.write(params, entries(sizes))
  vocabulary = _tokenizer_file(tokenizer)
  about = dict(format=FORMAT, step=int(step), route=route, config=config)
  write_folder(path, about, tensors)
  path = pathlib.Path(path)
  (path / TOKENIZER).write_bytes(vocabulary)
  code = path / IMPLEMENTATION
  code.mkdir(exist_ok=True)
  for file in pathlib.Path(__file__).with_name(IMPLEMENTATION).glob("*.py"):
    (code / file.name).write_bytes(file.read_bytes())


# Path and array of a weight -> the weight in its place.
Put = Callable[[str, np.ndarray], Any]


def load(
  path: str | os.PathLike,
  putting: Callable[[Exported], Put] = lambda about: lambda path, x: x,
) -> Exported:
  """Reads what `save` wrote, a weight at a time.

  `putting`: given all but the weights, before any is read, says what becomes of
  them.

  Raises:
    FolderError: the folder is damaged or not an export of an EMMA.
    ConfigError: step, route or config are missing or of a wrong type.
    ExportError: a config of another model.
    table.ConversionError: tensors that do not belong to the config.
    BadValues: a tensor that is not finite.
  """
  folder = Folder.open(path)
  about = emma_config.read(folder.config, str(folder.path / "config.json"))
  sizes = model_config(about["config"]["model"])
  leaves = table.read(folder, entries(sizes), shapes(sizes))
  out = Exported(
    config=about["config"], params={}, step=about["step"], route=about["route"]
  )
  put = putting(out)
  params = rules.unflatten({name: put(name, leaf) for name, leaf in leaves})
  return dataclasses.replace(out, params=params)
