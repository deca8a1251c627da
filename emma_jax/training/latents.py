"""Whether latents that were made beforehand are of a run's own autoencoder."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp

from emma_jax.checkpoints.integrity import checksums, digest


class WrongLatents(ValueError):
  """Stored latents are another autoencoder's than the run's."""


def fingerprint(autoencoder: dict) -> str:
  """Hash of what encodes: the same on any mesh.

  Of the weights as bfloat16: a run may keep frozen matrices so. The decoder
  plays no part.
  """
  encoding = {k: v for k, v in autoencoder.items() if k != "decoder"}
  return digest(
    checksums(
      jax.tree.map(lambda x: jnp.asarray(x).astype(jnp.bfloat16), encoding)
    )
  )


def check(made_by: Mapping[str, str], params: dict) -> None:
  """Raises WrongLatents unless all were made by the run's autoencoder.

  Args:
    made_by: source -> fingerprint of the autoencoder that made its latents.
    params: all parameters of the run; every process calls this.
  """
  if not made_by:
    return
  own = fingerprint(params["autoencoder"])
  wrong = sorted(name for name, made in made_by.items() if made != own)
  if wrong:
    raise WrongLatents(
      f"The latents of the sources {wrong} were made by an autoencoder with "
      f"other weights than this run's ({own[:12]}). Remove their latents-* "
      "folders and give `emma-data encode-latents` the run's own weights, or "
      "set config.data.latents=step."
    )
