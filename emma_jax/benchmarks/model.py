"""The model whose predictions are made, and what decides them."""

import dataclasses
import importlib.metadata
import pathlib
import platform
import subprocess
from typing import Any

import jax

from emma_jax import __version__
from emma_jax.benchmarks import records
from emma_jax.benchmarks.settings import SetSettings
from emma_jax.checkpoints.integrity import checksums
from emma_jax.sampling.session import Session


@dataclasses.dataclass(frozen=True, kw_only=True)
class Model:
  """A session, and digests of what decides its predictions.

  weights: of all arrays.
  config: of the sections that say how pictures and texts are shown.
  """

  session: Session
  weights: str
  config: str

  @classmethod
  def of(cls, session: Session) -> "Model":
    """Goes through all weights once.

    Raises:
      ValueError: the session's programs do not have a fixed number of rows.
    """
    if not session.runner.fill:
      raise ValueError("Predictions need a session that was loaded with fill.")
    sections = {k: session.config[k] for k in ("model", "data", "sample")}
    return cls(
      session=session,
      weights=records.digest(checksums(session.params)),
      config=records.digest(sections),
    )

  def decides(self, settings: SetSettings) -> dict[str, Any]:
    """JSON of the weights and settings, what is left open filled in."""
    defaults = self.session.defaults
    editing = settings.benchmark.task == "edit"
    text = "edit_text_guidance" if editing else "text_guidance"
    given = settings.asked()
    for key, default in (
      ("steps", "steps"),
      ("shift", "shift"),
      ("text_guidance", text),
      ("image_guidance", "edit_image_guidance"),
    ):
      given[key] = defaults[default] if given[key] is None else given[key]
    del given["repeats"], given["split"]  # what is there does not change
    # On another mesh sums may be of another order.
    mesh = self.session.runner.place.mesh
    if mesh is not None:
      given["mesh"] = dict(mesh.shape)
    return given | {
      "weights": self.weights,
      "config": self.config,
      "route": self.session.runner.route,
      "rows": self.session.runner.batch,
    }


def about(model: Model, checkpoint: str) -> dict[str, Any]:
  """What run.json says of a run: weights, versions, device."""
  return {
    "checkpoint": checkpoint,
    "step": model.session.step,
    "weights": model.weights,
    "model_config": model.config,
    "route": model.session.runner.route,
    "commit": _commit(),
    "device": jax.devices()[0].device_kind,
    "versions": {
      "emma_jax": __version__,
      "python": platform.python_version(),
      **{
        name: importlib.metadata.version(name)
        for name in ("jax", "jaxlib", "flax", "numpy", "pillow")
      },
    },
  }


def _commit() -> str:
  """Of the checkout this runs from, "+" where it was changed; "" without."""
  root = pathlib.Path(__file__).parent.parent.parent

  def git(*command: str) -> str:
    return subprocess.run(
      ["git", "-C", str(root), *command],
      check=True,
      capture_output=True,
      text=True,
    ).stdout.strip()

  try:
    if pathlib.Path(git("rev-parse", "--show-toplevel")) != root:
      return ""  # installed within another repository
    return git("rev-parse", "HEAD") + (
      "+" if git("status", "-s", "-uno") else ""
    )
  except (OSError, subprocess.CalledProcessError):
    return ""
