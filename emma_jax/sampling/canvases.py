"""Pictures to be made: prepared one by one, computed in groups of one program.

A canvas is what the model is shown for one picture, and with what program it is
computed; both depend on nothing but its own request.
"""

from collections.abc import Callable, Hashable, Sequence
import dataclasses
import functools

from emma_jax import ranges
from emma_jax.data.batching.row_layout import Layout
from emma_jax.data.pictures.preprocess import covering, restore
from emma_jax.data.transforms import Sample
from emma_jax.models.emma import PIXELS_PER_TOKEN, token_grid
from emma_jax.sampling import image
from emma_jax.sampling.context import SampleError, Seeds, seed_of_each
from emma_jax.sampling.fitting import sources_of
from emma_jax.sampling.image import Context
from emma_jax.sampling.requests import Requests, places_by
from emma_jax.sampling.runner import Pixels, Progress, Runner
from emma_jax.structs import RawPicture


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Canvas:
  """One picture to be made.

  task: "drawing" or "editing".
  contexts: of the guidance, and their weights.
  samples: what is seen in each context.
  row: the layout that the contexts need.
  size: (height, width) of what is computed, multiples of 32.
  finish: brings that into the size that was asked for.
  """

  task: str
  contexts: tuple[Context, ...]
  samples: tuple[Sample, ...]
  row: Layout
  size: tuple[int, int]
  finish: Callable[[Pixels], Pixels]

  @property
  def program(self) -> Hashable:
    """Canvases with the same one are computed together."""
    return self.task, self.contexts, self.row, self.size

  @property
  def tokens(self) -> int:
    """Tokens of all contexts, pictures included, before the target."""
    return sum(self.row.row_cost(s)["und_tokens"] for s in self.samples)

  @property
  def targets(self) -> int:
    """Tokens of the result in all contexts, computed once a step."""
    height, width = self.size
    cells = (height // PIXELS_PER_TOKEN) * (width // PIXELS_PER_TOKEN)
    return cells * len(self.contexts)

  @property
  def slots(self) -> int:
    """Tokens they are computed as, with padding."""
    return self.row.und_tokens * len(self.samples)


def drawings(
  requests: Requests,
  prompts: Sequence[str],
  size: tuple[int, int] | None,
  text_guidance: float,
) -> list[Canvas]:
  """Canvases for prompts, of exactly `size`; see `Session.draw`."""
  size = requests.size if size is None else size
  requests.check_results(size, len(prompts))
  full = requests.drawn_size(*size)
  height, width = token_grid(*full)
  requests.check_tokens(f"A picture of {full[0]}x{full[1]}", height * width)
  _check(text_guidance=text_guidance)
  contexts = image.drawing_contexts(text_guidance)
  samples = requests.drawings(prompts, contexts)
  return [
    Canvas(
      task="drawing",
      contexts=contexts,
      samples=seen,
      row=requests.layout(f"Prompt {i}", seen, full),
      size=full,
      finish=functools.partial(covering, size=size),
    )
    for i, seen in enumerate(zip(*samples))
  ]


def edits(
  requests: Requests,
  pictures: Sequence[RawPicture | Sequence[RawPicture]],
  instructions: Sequence[str],
  text_guidance: float,
  image_guidance: float,
) -> list[Canvas]:
  """Canvases for edits, in the sizes of their pictures; see `Session.edit`."""
  _check(text_guidance=text_guidance, image_guidance=image_guidance)
  contexts = image.editing_contexts(text_guidance, image_guidance)
  sources = requests.fit_sources(sources_of(pictures))
  out: dict[int, Canvas] = {}
  fitted = [first for first, *_ in sources]
  if fitted:
    requests.check_kept([(first.original_size, 1) for first in fitted])
  groups = places_by(map(requests.edit_sizes, fitted))
  for (full, size), members in groups.items():
    samples = requests.edits(sources, instructions, contexts, members)
    for i, seen in zip(members, zip(*samples)):
      out[i] = Canvas(
        task="editing",
        contexts=contexts,
        samples=seen,
        row=requests.layout(f"Edit {i}", seen, full),
        size=size,
        finish=functools.partial(restore, fitted[i]),
      )
  return [out[i] for i in range(len(sources))]


def _check(**guidance: float) -> None:
  for name, value in guidance.items():
    if value not in ranges.GUIDANCE:
      raise SampleError(f"{name}={value} is not {ranges.GUIDANCE}.")


def paint(
  runner: Runner,
  canvases: Sequence[Canvas],
  streams: Sequence[int],
  *,
  steps: int,
  shift: float,
  seed: Seeds,
  on_progress: Progress | None = None,
) -> list[Pixels]:
  """The pictures, noise by the seeds and the streams."""
  out: dict[int, Pixels] = {}
  seeds = seed_of_each(seed, len(canvases))
  groups = places_by(canvas.program for canvas in canvases)
  for n, members in enumerate(groups.values()):
    first = canvases[members[0]]
    of_all = None
    if on_progress is not None:  # of several programs each is an equal part
      of_all = functools.partial(_told, on_progress, n, len(groups))
    made = runner.pictures(
      first.contexts,
      list(zip(*(canvases[i].samples for i in members))),
      first.row,
      [streams[i] for i in members],
      size=first.size,
      steps=steps,
      shift=shift,
      seed=[seeds[i] for i in members],
      task=first.task,
      on_progress=of_all,
    )
    for i, picture in zip(members, made):
      out[i] = canvases[i].finish(picture)
  return [out[i] for i in range(len(canvases))]


def _told(
  on_progress: Progress, n: int, count: int, done: int, total: int
) -> None:
  on_progress(n * total + done, count * total)
