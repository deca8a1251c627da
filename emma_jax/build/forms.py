"""What stands in the tables of a config: the form of every value with parts.

A key that is given on a command line keeps its kind, a tuple a tuple; what is
in it is asked here, before anything unpacks it.
"""

from collections.abc import Mapping
import re
from typing import Any, NamedTuple

from emma_jax.build.keys import matches
from emma_jax.build.sections import ConfigError


class _Pattern:
  """A regular expression, as text."""


class Form(NamedTuple):
  """What fits, and how it is told to people.

  parts: a type or `_Pattern`; [x]: any number of x; (x, y): one of each; {}: a
    dict of numbers by name. Several Forms are alternatives.
  """

  parts: Any
  told: str


_TEXTS = Form([str], "texts such as ('a', 'b')")
_SIZES = Form([int], "whole numbers such as (64, 128)")
_SCALES = Form([[int]], "tuples of whole numbers such as ((), (5,))")
_SOURCES = Form(
  [(_Pattern, str)], "(PATTERN, TEXT) pairs such as (('.*', 'keep'),)"
)
_PHASES = Form(
  [tuple((float, {}, *[Mapping] * options) for options in range(4))],
  "(START, WEIGHTS) phases such as ((0.0, {'drawing': 1.0}),)",
)

# Dotted key, as in `bounds` -> its form.
FORMS: dict[str, Form] = {
  "data.buckets": Form([(int, int)], "(HEIGHT, WIDTH) pairs: ((96, 96),)"),
  "evaluate.router.sources": _TEXTS,
  "evaluate.tasks": _TEXTS,
  "model.autoencoder.decoder_act_fns": _TEXTS,
  "model.autoencoder.decoder_block_out_channels": _SIZES,
  "model.autoencoder.decoder_block_types": _TEXTS,
  "model.autoencoder.decoder_layers_per_block": _SIZES,
  "model.autoencoder.decoder_norm_types": _TEXTS,
  "model.autoencoder.decoder_qkv_multiscales": _SCALES,
  "model.autoencoder.encoder_block_out_channels": _SIZES,
  "model.autoencoder.encoder_block_types": _TEXTS,
  "model.autoencoder.encoder_layers_per_block": _SIZES,
  "model.autoencoder.encoder_qkv_multiscales": _SCALES,
  "model.llm.deep_shared": _TEXTS,
  "model.llm.shallow_shared": _TEXTS,
  "model.vision.extra_experts": _TEXTS,
  "stages.*.load": _SOURCES,
  "stages.*.lr_multipliers": Form(
    [(_Pattern, float)], "(PATTERN, NUMBER) pairs such as (('.*', 1.0),)"
  ),
  "stages.*.mixture": _PHASES,
  "stages.*.policy": _SOURCES,
  "train.sample_prompts": _TEXTS,
  "train.writers": _TEXTS,
}


def check(config: Mapping[str, Any]) -> None:
  """Raises ConfigError, with the key, for a table that is not of its form."""
  _check(config, ())


def _check(node: Mapping[str, Any], path: tuple[str, ...]) -> None:
  for name, value in node.items():
    here = (*path, str(name))
    if hasattr(value, "items"):
      _check(value, here)
    elif isinstance(value, (list, tuple)):
      form = next((f for p, f in FORMS.items() if matches(p, here)), None)
      if form is not None and (wrong := _misfit(value, form.parts)):
        key = ".".join(here)
        raise ConfigError(
          f"config.{key}={_short(value)}: {wrong[0]}; give {form.told}."
        )


def _misfit(value: Any, form: Any) -> list[str]:
  """What does not fit, if anything."""
  if isinstance(form, list):
    if not isinstance(value, (list, tuple)):
      return [f"{_short(value)} is no tuple"]
    (one,) = form
    return next((bad for v in value if (bad := _misfit(v, one))), [])
  if isinstance(form, tuple) and isinstance(form[0], tuple):  # alternatives
    tried = [_misfit(value, one) for one in form]
    return [] if [] in tried else tried[0]
  if isinstance(form, tuple):
    if not isinstance(value, (list, tuple)) or len(value) != len(form):
      return [f"{_short(value)} is not a tuple of {len(form)}"]
    return next(
      (bad for v, f in zip(value, form) if (bad := _misfit(v, f))), []
    )
  if isinstance(form, dict):
    if not hasattr(value, "items"):
      return [f"{_short(value)} is no dict"]
    return next((bad for v in value.values() if (bad := _misfit(v, float))), [])
  return _misfit_of_one(value, form)


def _misfit_of_one(value: Any, kind: Any) -> list[str]:
  if kind is Mapping:
    return [] if hasattr(value, "items") else [f"{_short(value)} is no dict"]
  if kind in (int, float):
    real = (int,) if kind is int else (int, float)
    if not isinstance(value, real) or isinstance(value, bool):
      return [f"{_short(value)} is no {'whole ' * (kind is int)}number"]
    return []
  if not isinstance(value, str):
    return [f"{_short(value)} is no text"]
  if kind is _Pattern:
    try:
      re.compile(value)
    except re.error as error:
      return [f"{_short(value)} is no regular expression ({error})"]
  return []


def _short(value: Any) -> str:
  text = repr(value)
  return text if len(text) <= 60 else f"{text[:60]}..."
