"""A whole EMMA as a folder that plain PyTorch runs, and back, bit for bit.

The folder holds model.safetensors (or shards), config.json, tokenizer.json and
`emma_torch/`, which needs nothing of ours. Names are those of `emma_names`.
"""

from collections.abc import Callable, Iterable, Mapping
import dataclasses
import json
import os
import pathlib
from typing import Any

import numpy as np

from emma_jax import rules
from emma_jax.build import model as build_model
from emma_jax.build import sections
from emma_jax.convert import emma_config, emma_names, table
from emma_jax.convert.emma_config import FORMAT
from emma_jax.convert.files import Folder, write_folder
from emma_jax.data.pictures.framing import Framing
from emma_jax.data.text.tokenizer import QwenTokenizer, Tokenizer
from emma_jax.models.adapters import FusionConfig
from emma_jax.models.dcae import DcaeConfig
from emma_jax.models.emma import EmmaConfig
from emma_jax.models.experts import TowerConfig
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
  TowerConfig: """encoder experts extra_experts num_expert_layers
        router_width router_threshold""",
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
  honoured = _HONOURED.get(type(part), "").split()
  for field in dataclasses.fields(part):
    value = getattr(part, field.name)
    if field.name in honoured:
      if dataclasses.is_dataclass(value):
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


def _tokenizer_file(tokenizer: Tokenizer) -> bytes:
  """What is written as tokenizer.json.

  Of Qwen3's a Hugging Face tokenizer.json. Of the world's own the vocabulary:
  ids of the specials, 256 bytes from `first` on, then `pieces`.
  """
  if isinstance(tokenizer, QwenTokenizer):
    return _json(tokenizer.tokenizer_json())
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
        f" pieces gives, so {IMPLEMENTATION} could not tokenize as this model"
        " does; export models of the tokenizers tiny and qwen3."
      )
  return _json(
    {"special": dict(tokenizer.special), "first": first, "pieces": pieces}
  )


def _json(content: Mapping[str, Any]) -> bytes:
  text = json.dumps(content, ensure_ascii=False, indent=1) + "\n"
  return text.encode()


def _ranges(ids: Iterable[int]) -> list[list[int]]:
  """Runs of numbers, as (first, one more than the last).

  >>> _ranges([2, 8, 9, 10])
  [[2, 3], [8, 11]]
  """
  out: list[list[int]] = []
  for i in sorted(ids):
    if out and out[-1][1] == i:
      out[-1][1] = i + 1
    else:
      out.append([i, i + 1])
  return out


# ---------------------------------------------------------- export and import


@dataclasses.dataclass(frozen=True, eq=False)
class Exported:
  """What a folder holds: `save` and `load` are inverses.

  config: all sections of the run's config, as JSON gives them, by today's keys;
    the tokenizer is the one in the folder.
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
  tokenizer: Tokenizer,
  framing: Framing,
  *,
  step: int = 0,
  route: str = "versatile",
) -> None:
  """Writes weights, config, tokenizer and `emma_torch/` into a folder.

  Args:
    path: the folder, made if missing.
    config: a run's config (its sections model, data and sample are used).
    params: nested dicts of arrays, stored in their dtypes.
    tokenizer: of the texts, whichever file it was read from.
    framing: how samplers show the model pictures.
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
  if route not in sizes.vision.routes:
    raise ExportError(f"{route=} is no expert of this model.")
  tensors = table.write(params, emma_names.entries(sizes))
  vocabulary = _tokenizer_file(tokenizer)
  about = dict(
    format=FORMAT,
    step=int(step),
    route=route,
    framing=dataclasses.asdict(framing),
    answer_ids=_ranges(tokenizer.answer_ids),
    config=config,
  )
  write_folder(path, about, tensors)
  path = pathlib.Path(path)
  (path / TOKENIZER).write_bytes(vocabulary)
  code = path / IMPLEMENTATION
  code.mkdir(exist_ok=True)
  for file in pathlib.Path(__file__).with_name(IMPLEMENTATION).glob("*.py"):
    (code / file.name).write_bytes(file.read_bytes())


def _check_depth(sizes: EmmaConfig, tensors: int) -> None:
  """Raises ExportError for more layers than a table of names should be for."""
  layers = [sizes.llm.num_layers, sizes.vision.encoder.num_layers]
  if isinstance(sizes.autoencoder, DcaeConfig):
    layers += sizes.autoencoder.encoder_layers_per_block
    layers += sizes.autoencoder.decoder_layers_per_block
  if sum(layers) > tensors:
    raise ExportError(
      f"config.model has {sum(layers):,} layers, and the files hold {tensors:,}"
      " tensors; get both again."
    )


def _shapes(sizes: EmmaConfig) -> table.Shapes:
  try:
    return emma_names.shapes(sizes)
  except (TypeError, ValueError, ArithmeticError) as error:
    text = str(error).partition("\n")[0]
    raise ExportError(
      f"config.model is of no model ({text}); get the file again."
    ) from error


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
  config = about["config"]
  try:
    sizes = model_config(config["model"])
    _check_depth(sizes, len(folder.names()))
    shapes = _shapes(sizes)
  except ExportError as error:
    raise ExportError(f"{folder.path / 'config.json'}: {error}") from error
  if config["data"]["tokenizer"].startswith("qwen3:"):
    # The folder's own: the file it was made of lies on another machine.
    own = os.path.abspath(folder.path / TOKENIZER)
    config["data"]["tokenizer"] = f"qwen3:{own}"
  leaves = table.read(
    folder,
    emma_names.entries(sizes),
    shapes,
    learned=False,  # a head that was not trained yet
  )
  out = Exported(
    config=config, params={}, step=about["step"], route=about["route"]
  )
  put = putting(out)
  params = rules.unflatten({name: put(name, leaf) for name, leaf in leaves})
  return dataclasses.replace(out, params=params)
