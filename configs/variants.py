"""Comparison variants of a model, for experiments on the paper's claims.

Each is a change of `config.model`, and of the room that its rows then need:

  python -m emma_jax.cli.train --config configs/tiny.py:token_fusion \\
      --workdir runs/token_fusion
"""

import ml_collections

_ALL = ("attn_norm", "qk", "v", "o", "mlp_norm", "mlp")

VARIANTS = {
  # Semantic and latent tokens one after the other instead of by channel.
  "token_fusion": {"fusion.mode": "token"},
  # Editing references go through the Und branch instead of the Gen branch.
  "reference_in_und": {"fusion.reference_branch": "und"},
  # One LLM for both branches: nothing decoupled.
  "all_shared": {
    "llm.shallow_shared": _ALL,
    "llm.deep_shared": _ALL,
    "llm.final_norm_shared": True,
  },
  # Two LLMs that meet in attention only: not even Q and K are shared.
  "all_decoupled": {"llm.shallow_shared": ()},
  # A plain SigLIP2: no STEM expert, no router, so no stages 4a and 4b.
  "no_experts": {"vision.experts": False},
}


def change_model(model: ml_collections.ConfigDict, name: str) -> None:
  """Makes `config.model` the variant's.

  Raises:
    ValueError: there is no such variant.
  """
  if name not in VARIANTS:
    raise ValueError(f"No variant {name!r}; there are {list(VARIANTS)}.")
  model.update_from_flattened_dict(VARIANTS[name])


def more_und_tokens(
  fusion: ml_collections.ConfigDict,
  stage: ml_collections.ConfigDict,
  picture: int,
) -> int:
  """Tokens a row of `stage` takes beyond those of fusion by channel.

  `picture`: tokens of one kind of one picture.
  """
  more = picture * stage.und_pictures if fusion.mode == "token" else 0
  if fusion.reference_branch == "und":
    more += picture * stage.references
  return more
