"""The same few drawings, edits and answers, again and again during a run.

WORKDIR/samples/step-000002000/{live,averaged}/drawing-0.png, answers in
samples.json beside them, and sheet.png of all. Noise is of a fixed seed and of
a sample's place, so what differs from one look to the next is the weights'.
"""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
import itertools
import json
import pathlib
from typing import Any

import jax
import numpy as np

from emma_jax import files
from emma_jax.build import held_out
from emma_jax.build import session as build_session
from emma_jax.data.loading.sources import open_source
from emma_jax.data.pictures.images import BadRecord, load_picture
from emma_jax.evals import contact_sheet
from emma_jax.evals.files import decoded, plain_question
from emma_jax.sampling.placement import Placement
from emma_jax.structs import (
  TASKS,
  Drawing,
  Editing,
  RawPicture,
  Record,
  Understanding,
)
from emma_jax.training.looks import Look
from emma_jax.world import scoring

LIVE, AVERAGED = WEIGHTS = ("live", "averaged")
_TASKS = (*TASKS, "autoencoder")
# Records of a source that are looked at for each that is wanted.
_TRIED = 10


@dataclasses.dataclass(frozen=True, kw_only=True)
class Item:
  """One thing that is asked for at every look; `text` is for people."""

  task: str
  record: Record
  text: str


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Made:
  """What came of an item: a picture, or answers."""

  picture: np.ndarray | None = None  # uint8 (Y, X, 3)
  answers: tuple[str, ...] = ()


class RunSamples:
  """Makes and keeps the samples of a run's looks."""

  def __init__(
    self,
    workdir: str | pathlib.Path,
    config: Mapping[str, Any],
    make_session: Callable[..., Any] = build_session.session,
  ):
    """Nothing is read yet; `config`: the whole one, plain dictionaries."""
    self._folder = pathlib.Path(workdir) / "samples"
    self._config, self._train = config, config["train"]
    self._make_session = make_session
    self._chosen: Chosen | None = None

  def __call__(self, look: Look) -> None:
    """All processes compute, the first one writes."""
    items = self._items(look.stage)
    if not items:
      look.writer.note(
        f"No samples of stage {look.stage}: its sources have no held-out "
        "records (config.train.validate_sources)."
      )
      return
    made: dict[str, list[Made]] = {}
    for weights in WEIGHTS:
      session = self._make_session(
        self._config,
        look.params(weights == AVERAGED),
        name=f"{self._config['name']} {look.stage}",
        step=look.step,
        route="router" if look.router_trained else "versatile",
        place=Placement(mesh=look.mesh) if look.mesh.size > 1 else Placement(),
      )
      made[weights] = sample(
        session,
        items,
        tokens=self._train["sample_tokens"],
        steps=self._config["evaluate"]["steps"],
      )
    if jax.process_index() == 0:
      try:
        self._keep(look, items, made)
      except OSError as error:  # a look is worth no run
        look.writer.note(f"The samples of step {look.step} are lost: {error}")

  def _items(self, stage: str) -> list[Item]:
    """Those of tasks that the stage trains."""
    if self._chosen is None:
      self._chosen = chosen(self._config)
    names = set(held_out.specs(self._config, stage)[0])
    tasks = {t for t, of in self._chosen.sources.items() if of & names}
    draws = self._config["stages"][stage]["targets"] > 0
    if self._train["sample_prompts"] and draws:
      tasks.add("drawing")
    return [item for item in self._chosen.items if item.task in tasks]

  def _keep(
    self, look: Look, items: Sequence[Item], made: Mapping[str, Sequence[Made]]
  ) -> None:
    """Files of the look, and what the run's writers show of it."""
    folder = self._folder / f"step-{look.step:09d}"
    lines: list[dict[str, Any]] = []
    count: dict[str, int] = {}
    for n, item in enumerate(items):
      number = count.get(item.task, 0)
      count[item.task] = number + 1
      entry: dict[str, Any] = dict(
        task=item.task, number=number, text=item.text, made={}
      )
      for weights in WEIGHTS:
        one = made[weights][n]
        if one.picture is None:
          entry["made"][weights] = {"answers": list(one.answers)}
          continue
        name = f"{weights}/{item.task}-{number}.png"
        contact_sheet.save(folder / name, one.picture)
        entry["made"][weights] = {"picture": name}
      lines.append(entry)
    rows = [
      _row(item, [made[w][n] for w in WEIGHTS]) for n, item in enumerate(items)
    ]
    sheet = contact_sheet.sheet(rows, head=WEIGHTS)
    contact_sheet.save(folder / "sheet.png", sheet)
    content = {"stage": look.stage, "step": look.step, "items": lines}
    files.write_text(
      folder / "samples.json",
      json.dumps(content, indent=1, ensure_ascii=False) + "\n",
    )
    look.writer.show(look.step, {"samples": sheet}, _texts(items, made))


def sample(
  session: Any, items: Sequence[Item], *, tokens: int, steps: int
) -> list[Made]:
  """What a session makes of each item: of equal weights always the same.

  Args:
    session: of `build.session`.
    items: of any tasks.
    tokens: of an answer, at most.
    steps: of the sampler; 0: the model's own.
  """
  out: dict[int, Made] = {}
  for task in dict.fromkeys(item.task for item in items):
    places = [n for n, item in enumerate(items) if item.task == task]
    records = [items[n].record for n in places]
    made = _of_task(session, task, records, tokens, steps or None)
    out |= zip(places, made)
  return [out[n] for n in range(len(items))]


def _of_task(
  session: Any,
  task: str,
  records: Sequence[Any],
  tokens: int,
  steps: int | None,
) -> list[Made]:
  if task == "understanding":
    answers = session.ask(
      [r.pictures for r in records],
      [tuple(question for question, _ in r.turns) for r in records],
      max_tokens=tokens,
      temperature=0.0,
    )
    return [Made(answers=tuple(said)) for said in answers]
  if task == "autoencoder":
    pictures = session.reconstruct([r.picture for r in records])
  elif isinstance(records[0], Editing):
    pictures = session.edit(
      [r.sources for r in records],
      [r.instruction for r in records],
      steps=steps,
      seed=0,
    )
  else:
    pictures = [None] * len(records)
    sizes = [scoring.canvas_of(r) if r.truth else None for r in records]
    for size in dict.fromkeys(sizes):
      places = [n for n, other in enumerate(sizes) if other == size]
      prompts = [records[n].prompt for n in places]
      drawn = session.draw(prompts, size=size, steps=steps, seed=0)
      for n, picture in zip(places, drawn):
        pictures[n] = picture
  return [Made(picture=picture) for picture in pictures]


def _row(item: Item, made: Sequence[Made]) -> contact_sheet.Row:
  """What was shown, and what each kind of weights made of it."""
  record = item.record
  shown: list[RawPicture] = []
  if isinstance(record, Editing):
    shown = [*record.sources]
  elif isinstance(record, Understanding):
    shown = [*record.pictures]
  elif item.task == "autoencoder" and record.picture is not None:
    shown = [record.picture]
  cells = [
    one.picture if one.picture is not None else " / ".join(one.answers)
    for one in made
  ]
  return contact_sheet.Row(item.text, [*map(load_picture, shown)], cells)


def _texts(
  items: Sequence[Item], made: Mapping[str, Sequence[Made]]
) -> dict[str, str]:
  """Answers as a table of Markdown, the prompts of pictures as a list."""
  out: dict[str, str] = {}
  asked = [n for n, i in enumerate(items) if i.task == "understanding"]
  if asked:
    cell = lambda text: text.replace("|", "\\|").replace("\n", " ")
    lines = ["| question | live | averaged |", "| --- | --- | --- |"]
    for n in asked:
      said = [" / ".join(made[w][n].answers) for w in WEIGHTS]
      lines.append("| " + " | ".join(map(cell, [items[n].text, *said])) + " |")
    out["samples/understanding"] = "\n".join(lines)
  drawn = [i for i in items if i.task != "understanding"]
  if drawn:
    lines = [f"{i.task}: {i.text}" for i in drawn]
    out["samples/prompts"] = "\n\n".join(lines)
  return out


# ---------------------------------------------------------------- the records


@dataclasses.dataclass(frozen=True, kw_only=True)
class Chosen:
  """What a run is asked; `sources`: task -> names of those that have it."""

  items: Sequence[Item]
  sources: Mapping[str, set[str]]


def chosen(config: Mapping[str, Any]) -> Chosen:
  """The first sound held-out records of each task, in turn of its sources.

  `train.sample_prompts` are drawn in place of their prompts.
  """
  count = config["train"]["sample_count"]
  found: dict[str, dict[str, list[Item]]] = {task: {} for task in _TASKS}
  for name, spec in held_out.specs(config)[0].items():
    for record in first_records(spec, count):
      item = item_of(record, config["model"]["kind"] == "autoencoder")
      found[item.task].setdefault(name, []).append(item)
  items: list[Item] = []
  for by_source in found.values():
    # The first of each source, then the second of each.
    turns = itertools.zip_longest(*by_source.values())
    of_task = [item for turn in turns for item in turn if item is not None]
    items += of_task[:count]
  prompts = config["train"]["sample_prompts"]
  if prompts:
    items = [i for i in items if i.task != "drawing"]
    items += [item_of(Drawing(prompt=p)) for p in prompts]
  return Chosen(items=items, sources={t: set(x) for t, x in found.items()})


def first_records(spec: str, count: int) -> list[Record]:
  """The first sound records of a source, pictures decoded; [] without it."""
  out: list[Record] = []
  try:
    source = open_source(spec)
  except (OSError, ValueError):
    return out  # the run has said so, or has not begun
  for index in range(min(len(source), _TRIED * count)):
    if len(out) == count:
      break
    try:
      out.append(decoded(source[index]))
    except BadRecord:
      continue  # the validation counts them
  return out


def item_of(record: Record, autoencoder: bool = False) -> Item:
  """What is asked for a record: of a conversation the first question."""
  if isinstance(record, Understanding):
    # Of a conversation the first question: those of later ones need answers.
    record = dataclasses.replace(
      record, turns=record.turns[:1], kinds=record.kinds[:1]
    )
    text = plain_question(record.turns[0][0])
    return Item(task="understanding", record=record, text=text)
  if isinstance(record, Editing):
    return Item(task=record.task, record=record, text=record.instruction)
  if autoencoder:
    return Item(task="autoencoder", record=record, text="the original")
  return Item(task="drawing", record=record, text=record.prompt)
