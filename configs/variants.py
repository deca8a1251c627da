"""Comparison variants of the tiny model, for experiments on the paper's claims.

Each trains with the same command as the original:

  python -m emma_jax.cli.train --config configs/tiny_token_fusion.py \\
      --workdir runs/token_fusion
"""

import ml_collections

from configs import tiny

_ALL = ("attn_norm", "qk", "v", "o", "mlp_norm", "mlp")


def token_fusion() -> ml_collections.ConfigDict:
  """Semantic and latent tokens one after the other instead of by channel.

  A clean picture takes twice the tokens, so rows need more room.
  """
  c = _model(fusion=dict(mode="token"))
  for stage in c.stages.values():
    stage.und_tokens += 9 * stage.und_pictures
  return _named(c, "token_fusion")


def all_shared() -> ml_collections.ConfigDict:
  """One LLM for both branches: nothing decoupled."""
  return _named(
    _model(
      llm=dict(shallow_shared=_ALL, deep_shared=_ALL, final_norm_shared=True)
    ),
    "all_shared",
  )


def all_decoupled() -> ml_collections.ConfigDict:
  """Two LLMs that meet in attention only: not even Q and K are shared."""
  return _named(_model(llm=dict(shallow_shared=())), "all_decoupled")


def no_experts() -> ml_collections.ConfigDict:
  """A plain SigLIP2: no STEM expert, no router, so no stages 4a and 4b."""
  return _named(_model(vision=dict(experts=False)), "no_experts")


def reference_in_und() -> ml_collections.ConfigDict:
  """Editing references go through the Und branch instead of the Gen branch."""
  c = _model(fusion=dict(reference_branch="und"))
  for stage in c.stages.values():
    stage.und_tokens += 9 * stage.references
  return _named(c, "reference_in_und")


def _model(**changes: dict) -> ml_collections.ConfigDict:
  """The tiny config with changed model keys, and the stages they imply."""
  c = tiny.get_config()
  for section, values in changes.items():
    c.model[section].update(values)
  c.stages = tiny.tiny_stages(c.model)
  return c


def _named(c: ml_collections.ConfigDict, name: str):
  c.name = name
  c.evaluate.reference = False
  return c
