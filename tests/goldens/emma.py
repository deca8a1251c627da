"""The whole micro EMMA of `tests/tiny.py` over a packed batch, by variant."""

import functools

from tests import tiny

KEPT = 6
VARIANTS = ("paper", *tiny.MIXTURES)


@functools.cache
def batch(variant: str):
  """Questions of two pictures, a drawing, an edit: two rows."""
  return tiny.packed(
    [tiny.understanding(), tiny.drawing(), tiny.editing(1)], variant
  )


def _forward(variant: str):
  def case():
    out, logits = tiny.run(
      tiny.emma(variant), tiny.params(variant), tiny.inputs(batch(variant))
    )
    return {
      "logits": logits,
      "velocity": out.velocity_BMTC,
      "keys": out.cache.key_ZBSKE,
      "values": out.cache.value_ZBSKE,
    }

  return case


CASES = {name: _forward(name) for name in VARIANTS}


def cases():
  return {name: case() for name, case in CASES.items()}
