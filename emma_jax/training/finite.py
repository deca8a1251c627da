"""Numbers that are not finite: found in a step, kept out of every state.

A step looks at its loss and at its gradient's norm, and is applied where both
are finite. All on the device: the host reads how many steps in a row were
refused with the metrics, a step later, and by then the device has refused all
that came after.

Why these two are enough: the norm is not finite where any part of the gradient
is not, and the update of AdamW is bounded by what the gradient is clipped to,
so a finite state stays finite. What a rate makes too large over time (weights
that grow until float32 ends) is found where a state is saved, and that state
is not saved.
"""

from collections.abc import Iterable, Mapping
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from emma_jax import rules
from emma_jax.structs import Array, Mean

# Of a step's metrics: how many steps in a row were refused; 0: it was applied.
REFUSED = "refused"
_SHOWN = 5  # names of a list


class Verdict(NamedTuple):
  """Of a step: scalars on the device."""

  applied: jax.Array  # whether its update is
  counts: jax.Array  # whether it counts as done
  refused: jax.Array  # steps in a row that were not applied, this one included

  def kept(self, new: Any, old: Any) -> Any:
    """What a step ends with: `new`, or `old` where it is not applied."""
    return jax.tree.map(lambda n, o: jnp.where(self.applied, n, o), new, old)


def judge(
  loss: jax.Array, norm: jax.Array, refused: Array, most: int
) -> Verdict:
  """Whether a step is applied.

  Args:
    loss, norm: of the step and of its gradient, scalars.
    refused: steps in a row before it that were not applied.
    most: steps in a row that may be refused: such a one counts as done, its
      batch is left out. After more than these the state stays as it is for
      ever: none is applied that comes before the host has noticed.
  """
  halted = refused > most
  applied = jnp.isfinite(loss) & jnp.isfinite(norm) & ~halted
  refused = jnp.where(applied, 0, refused + 1)
  return Verdict(applied, refused <= most, refused)


def flags(tree: Any) -> jax.Array:
  """Of each leaf in its order: whether all of it is finite; bool (leaves,)."""
  leaves = jax.tree.leaves(tree)
  if not leaves:
    return jnp.ones(0, bool)
  return jnp.stack([_all_finite(x) for x in leaves])


def _all_finite(x: jax.Array) -> jax.Array:
  if not jnp.issubdtype(x.dtype, jnp.inexact):
    return jnp.bool_(True)
  return jnp.all(jnp.isfinite(x))


@functools.cache
def _jitted(where: Any) -> Any:
  return jax.jit(flags, out_shardings=where)


def bad_leaves(tree: Any, where: jax.sharding.Sharding | None) -> list[str]:
  """Paths of the leaves that are not finite everywhere; waits for the device.

  Args:
    tree: of arrays that lie on any devices, the same on all processes.
    where: every device of the mesh; None: one device.
  """
  found = np.asarray(jax.device_get(_jitted(where)(tree)))
  return [p for p, good in zip(paths(tree), found, strict=True) if not good]


def paths(tree: Any) -> list[str]:
  """Of each leaf in its order, as `flags` has them."""
  leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
  return [rules.path_of(keys) for keys, _ in leaves]


def listed(names: Iterable[str]) -> str:
  """The first of them, and how many more there are.

  >>> listed("abcdefg")
  'a, b, c, d, e and 2 more'
  """
  names = list(names)
  more = len(names) - _SHOWN
  text = ", ".join(names[:_SHOWN])
  return f"{text} and {more} more" if more > 0 else text


def bad_means(measured: Mapping[str, Mean]) -> list[str]:
  """Names of a step's metrics that are not finite; waits for the device."""
  values = jax.device_get(dict(measured))
  return [n for n, m in sorted(values.items()) if not np.isfinite(m.total)]
