"""Which checkpoint stays beside the newest: one that a run can go back to."""

from collections.abc import Callable, Sequence
import dataclasses

from orbax.checkpoint import checkpoint_managers as policies


@dataclasses.dataclass
class NewestRegular(policies.PreservationPolicy):
  """Keeps the newest step that is regular, however many irregular ones follow.

  A run that is stopped saves where it is. Many stops in a row would leave such
  saves alone, and none at a step that the run comes by undisturbed, too.
  """

  regular: Callable[[int], bool]

  def should_preserve(
    self,
    checkpoints: Sequence[policies.PolicyCheckpointInfo],
    *,
    context: policies.PreservationContext,
  ) -> Sequence[bool]:
    """Of each checkpoint, oldest first."""
    del context
    steps = [c.step for c in checkpoints if self.regular(c.step)]
    return [bool(steps) and c.step == max(steps) for c in checkpoints]
