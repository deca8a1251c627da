"""Published weights in, and parts of a model out, as a config says."""

from collections.abc import Callable, Mapping
import os
import pathlib
from typing import Any

import jax

from emma_jax.build import card, sections
from emma_jax.build import data as build_data
from emma_jax.build import model as build_model
from emma_jax.build.session import Source, framing
from emma_jax.checkpoints.checkpointer import save_params
from emma_jax.convert import assembly, dcae, emma, qwen3, siglip

PARTS = ("und", "vision", "autoencoder", "emma")


def first_weights(
  config: Mapping[str, Any],
  out: str | os.PathLike,
  *,
  qwen3_folder: str | os.PathLike,
  siglip2_folder: str | os.PathLike,
  dcae_folder: str | os.PathLike,
  dtype: str,
  say: Callable[[str], object] = print,
) -> list[assembly.Origin]:
  """Writes a checkpoint that a training can start from.

  Args:
    config: of an EMMA; a `ConfigDict` or nested dicts.
    out: the new folder.
    qwen3_folder, siglip2_folder, dcae_folder: as downloaded.
    dtype: of the stored weights.
    say: is told which defaults were taken where a config.json is silent.

  Returns:
    what came from where.

  Raises:
    ConfigError: a config of something else.
    ValueError: weights that do not belong to the config.
  """
  config = sections.plain(config)
  if config["model"]["kind"] != "emma":
    raise sections.ConfigError(
      f"config.model.kind={config['model']['kind']!r}: init makes an emma."
    )
  fingerprints = build_data.fingerprints(config["data"])
  params, origins = assembly.assemble(
    build_model.emma_config(config["model"]),
    qwen3_folder=qwen3_folder,
    siglip2_folder=siglip2_folder,
    dcae_folder=dcae_folder,
    dtype=dtype,
    key=jax.random.key(config["train"]["seed"]),
    say=say,
  )
  meta = {
    "config": config,
    "fingerprints": fingerprints,
    "stage": "init",
    "stage_step": 0,
    "router_trained": False,
    "origins": [[o.subtree, o.source, o.parameters] for o in origins],
  }
  checkpoints = pathlib.Path(out) / "checkpoints"
  save_params(checkpoints, {"ema": params, "frozen": {}}, meta)
  return origins


def export(
  source: Source, part: str, out: str | os.PathLike, *, expert: str
) -> None:
  """Writes one of PARTS as a folder for PyTorch, with its model card.

  Args:
    source: of `session.read`.
    part: und: for transformers' Qwen3ForCausalLM; vision: SiglipVisionModel;
      autoencoder: diffusers' AutoencoderDC; emma: everything, with code.
    out: the new folder.
    expert: of the vision tower, one of its `names`.

  Raises:
    ConfigError: another part of a model that is an autoencoder alone.
    ValueError: what a part's format cannot hold.
  """
  model, params = source.config["model"], source.params
  if model["kind"] != "emma" and part != "autoencoder":
    raise sections.ConfigError(
      f"{source.name} holds an autoencoder alone; export autoencoder."
    )
  if part == "autoencoder":
    dcae.save(out, build_model.dcae_config(model), params["autoencoder"])
  elif part == "emma":
    emma.save(
      out,
      source.config,
      params,
      build_data.tokenizer(source.config["data"], model),
      framing(source.config),
      step=source.step,
      route=source.route,
    )
  elif part == "und":
    sizes = build_model.emma_config(model)
    qwen3.save(out, *assembly.und_branch(sizes.llm, params["llm"]))
  else:
    tower = build_model.emma_config(model).vision
    siglip.save(
      out,
      siglip.expert_config(tower),
      siglip.from_tower(params["vision"], tower, expert),
    )
  text = card.card(source, part)
  (pathlib.Path(out) / card.NAME).write_text(text, "utf-8")
