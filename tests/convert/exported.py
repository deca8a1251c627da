"""Exports of the micro EMMA, as tests of both sides want them."""

from emma_jax.build import sections
from emma_jax.build import session as build_session
from emma_jax.convert import emma as convert
from emma_jax.data.text.tokenizer import TinyTokenizer
from tests import tiny

SHOWN = ("paper", "token_all_shared", "und_decoupled_no_experts")


def config(variant: str = "paper") -> dict:
  return sections.plain(tiny.config(variant))


def export(path, variant: str = "paper", **options):
  save(path, config(variant), tiny.params(variant), **options)
  return path


def save(path, config: dict, params: dict, framing=None, **options):
  """What `exchange.export` does, with the world's tokenizer."""
  framing = framing or build_session.framing(config)
  convert.save(path, config, params, TinyTokenizer(), framing, **options)
