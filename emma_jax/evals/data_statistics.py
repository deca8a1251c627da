"""What data sets hold, as a page: counts of all records, and of some of them
their pictures and texts, near-copies, and what cropping and buckets do."""

from collections.abc import Mapping, Sequence
import dataclasses
import os
from typing import Any

from emma_jax.data.curation import closer
from emma_jax.data.curation.statistics import Statistics
from emma_jax.data.loading.sources import open_source
from emma_jax.data.pictures.framing import Framing, Role
from emma_jax.data.records.schema import pictures_of
from emma_jax.evals import sheets
from emma_jax.evals.crops import darkened
from emma_jax.evals.files import plain_question
from emma_jax.pages import charts
from emma_jax.pages.render import render
from emma_jax.structs import Drawing, Editing, RawPicture, Record, WithLatent

# Name of a count -> (title, note) of its chart.
CHARTS = {
  "tasks": ("Tasks", "records"),
  "stem": ("STEM labels", "understanding records"),
  "text_tokens": ("Text tokens", "records by number of text tokens"),
  "turns": ("Turns", "conversations by turns"),
  "pictures": ("Pictures", "records by number of pictures"),
  "resolutions": ("Resolution", "pictures by root of their area, pixels"),
  "aspects": ("Aspect ratio", "pictures by width : height"),
  "picture_tokens": ("Picture tokens", "pictures by tokens at native size"),
}
# Of a set: samples shown, and cropped pictures. Of all: groups of near-copies,
# and pictures of a group. Letters of a caption below them.
_SAMPLES, _CROPPED, _GROUPS, _OF_GROUP, _LETTERS = 16, 12, 12, 4, 300


@dataclasses.dataclass(frozen=True, kw_only=True)
class Looked:
  """What a closer look at a set found; `config`: by which its pictures are
  framed. sheet, crops: None where there is nothing to show."""

  records: int
  sheet: sheets.Sheet | None
  words: closer.Words
  framed: int
  framing: Sequence[charts.Bars]
  crops: sheets.Sheet | None
  config: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataSet:
  """A set on the page."""

  name: str
  stats: Statistics
  counts: Sequence[charts.Bars]
  word_counts: Sequence[charts.Bars]
  looked: Looked


@dataclasses.dataclass(frozen=True, kw_only=True)
class Copies:
  """Near-copies among the pictures of all sets.

  compared: pictures. copies: those that a kept one stands for. between: groups
  whose pictures are of several sets.
  """

  compared: int
  groups: int
  copies: int
  between: int
  sheet: sheets.Sheet | None


@dataclasses.dataclass
class _Pictures:
  """Of all sets: what is compared, and where each picture is."""

  seen: list[closer.Seen] = dataclasses.field(default_factory=list)
  places: list[tuple[str, Record, RawPicture]] = dataclasses.field(
    default_factory=list
  )


def html(
  found: Mapping[str, tuple[str, Statistics]],
  framing: Framing,
  config: str,
  most: int,
) -> str:
  """The page as text.

  Args:
    found: name of a set -> (spec of its source, its statistics).
    framing: of the pictures that are drawn or edited.
    config: whose `framing` it is.
    most: records of each set that are looked at.
  """
  pictures = _Pictures()
  sets = [
    _data_set(name, spec, stats, framing, config, most, pictures)
    for name, (spec, stats) in found.items()
  ]
  return render("statistics.html.j2", sets=sets, copies=_copies(pictures))


def _data_set(
  name: str,
  spec: str,
  stats: Statistics,
  framing: Framing,
  config: str,
  most: int,
  pictures: _Pictures,
) -> DataSet:
  records = [record for _, record in closer.spread(open_source(spec), most)]
  framed, lossy = _look(name, records, framing, pictures)
  words = closer.words(records)
  bars = [
    charts.bars(title, getattr(stats, key), note=note)
    for key, (title, note) in CHARTS.items()
  ]
  size = "pictures to draw or to edit, width x height"
  framing_bars = [
    charts.bars("Buckets", closer.buckets(framed), note=size),
    charts.bars("Cropped", closer.crops(framed), note="of their area"),
    charts.bars("Sides", closer.scales(framed), note="resized to"),
  ]
  word_bars = [
    charts.bars("Words a record", words.lengths, note="records by words"),
    charts.bars(
      "Frequent words",
      words.common,
      note="records, of words that at most half of them have",
      total=len(records),
    ),
  ]
  step = max(1, len(records) // _SAMPLES)
  cards = [_card(record) for record in records[::step][:_SAMPLES]]
  return DataSet(
    name=name,
    stats=stats,
    counts=[chart for chart in bars if chart],
    word_counts=[chart for chart in word_bars if chart],
    looked=Looked(
      records=len(records),
      sheet=_sheet([card for card in cards if card]),
      words=words,
      framed=len(framed),
      framing=[chart for chart in framing_bars if chart],
      crops=_crops(lossy, framing),
      config=config,
    ),
  )


def _look(
  name: str, records: Sequence[Record], framing: Framing, pictures: _Pictures
) -> tuple[list[closer.Framed], list[tuple[closer.Framed, str, Role, Any]]]:
  """(how every picture to generate is framed, those that lose something); all
  pictures are added to `pictures`. One picture is in memory at a time."""
  framed, lossy = [], []
  for record in records:
    roles = {id(raw): role for role, raw in closer.to_generate(record)}
    for raw in pictures_of(record):
      raw = raw.picture if isinstance(raw, WithLatent) else raw
      pixels_YXC = None if raw is None else closer.pixels(raw, record.id)
      if pixels_YXC is None:
        continue
      pictures.seen.append(closer.see(pixels_YXC))
      pictures.places.append((name, record, raw))
      if id(raw) in roles:
        y, x, _ = pixels_YXC.shape
        one = closer.framed(framing, roles[id(raw)], y, x)
        framed.append(one)
        if one.cropped > 0:
          where = _where(name, record.id)
          lossy.append((one, where, roles[id(raw)], raw))
  return framed, lossy


# ------------------------------------------------------------------- cards


def _card(record: Record) -> sheets.Card | None:
  """A record as it is; None where a picture cannot be read."""
  shown = []
  words = {Drawing: "picture of", Editing: "source of"}.get(
    type(record), "asked about"
  )
  alt = f"{words}: {_text(record)}"
  raws = pictures_of(record)
  for n, raw in enumerate(raws):
    pixels_YXC = closer.pixels(
      raw.picture if isinstance(raw, WithLatent) else raw, record.id
    )
    if pixels_YXC is None:
      return None
    last = isinstance(record, Editing) and n == len(raws) - 1
    shown.append(
      sheets.picture(pixels_YXC, f"target of: {_text(record)}" if last else alt)
    )
  if isinstance(record, Drawing):
    return sheets.Card(classes="", pictures=shown, caption=_text(record))
  if isinstance(record, Editing):
    arrow = len(record.sources)
    return sheets.Card(
      classes="", pictures=shown, arrow=arrow, caption=_text(record)
    )
  turns = [
    sheets.Turn(
      question=plain_question(question), answer=answer, truth=None, mark="open"
    )
    for question, answer in record.turns
  ]
  return sheets.Card(classes="asked", pictures=shown, turns=turns)


def _sheet(cards: Sequence[sheets.Card]) -> sheets.Sheet | None:
  if not cards:
    return None
  wide = any(card.arrow or card.caption is None for card in cards)
  return sheets.Sheet("sheet wide" if wide else "sheet", cards)


def _text(record: Record) -> str:
  if isinstance(record, Drawing):
    text = record.prompt
  elif isinstance(record, Editing):
    text = record.instruction
  else:
    text = plain_question(record.turns[0][0]) if record.turns else ""
  return text if len(text) <= _LETTERS else f"{text[:_LETTERS]}…"


def _copies(pictures: _Pictures) -> Copies:
  groups = [
    _one_a_record(group, pictures)
    for group in closer.near_copies(pictures.seen)
  ]
  groups = [group for group in groups if len(group) > 1]
  names = [{pictures.places[i][0] for i in group} for group in groups]
  several = len({name for name, _, _ in pictures.places}) > 1
  # Those between sets first: a copy of a held-out picture is a leak.
  order = sorted(range(len(groups)), key=lambda g: -len(names[g]))
  cards = [_group(groups[g], pictures, several) for g in order[:_GROUPS]]
  return Copies(
    compared=len(pictures.seen),
    groups=len(groups),
    copies=sum(len(group) - 1 for group in groups),
    between=sum(len(some) > 1 for some in names),
    sheet=sheets.Sheet("sheet wide", cards) if cards else None,
  )


def _one_a_record(group: Sequence[int], pictures: _Pictures) -> list[int]:
  """The source of an edit and its target are meant to be alike."""
  first: dict[int, int] = {}
  for place in group:
    first.setdefault(id(pictures.places[place][1]), place)
  return list(first.values())


def _group(
  group: Sequence[int], pictures: _Pictures, several: bool
) -> sheets.Card:
  shown, said = [], []
  for place in group[:_OF_GROUP]:
    name, record, raw = pictures.places[place]
    where = _where(name, record.id)
    if several and where == record.id:
      where = f"{os.path.basename(name)}: {where}"
    pixels_YXC = closer.pixels(raw, record.id)
    if pixels_YXC is not None:
      shown.append(sheets.picture(pixels_YXC, where))
    said.append(f"{where}: {_text(record)}")
  more = len(group) - len(said)
  if more > 0:
    said.append(f"and {more} more")
  return sheets.Card(classes="copies", pictures=shown, caption="\n".join(said))


def _where(name: str, record: str) -> str:
  """The id of a record without the folder of a file that is its set.

  >>> _where("jsonl:my/a.jsonl", "my/a.jsonl:7"), _where("x", "drawing/val/7")
  ('a.jsonl:7', 'drawing/val/7')
  """
  path = name.partition(":")[2] or name
  return os.path.basename(record) if record.startswith(f"{path}:") else record


def _crops(
  lossy: Sequence[tuple[closer.Framed, str, Role, Any]], framing: Framing
) -> sheets.Sheet | None:
  """The pictures that lose most, what is lost dark."""
  cards: list[sheets.Card] = []
  for one, where, role, raw in sorted(lossy, key=lambda x: -x[0].cropped):
    if len(cards) == _CROPPED:
      break
    pixels_YXC = closer.pixels(raw, where)
    if pixels_YXC is None:
      continue
    y, x = one.size
    placed = framing.nearest(y, x).of(role).place(y, x)
    text = (
      f"{where}, {x}x{y} to {one.bucket[1]}x{one.bucket[0]}: "
      f"{one.cropped:.1%} cropped"
    )
    if one.refused:
      text += ", refused (data.max_crop)"
    shown = sheets.picture(darkened(pixels_YXC, placed), text)
    cards.append(sheets.Card(classes="", pictures=[shown], caption=text))
  return sheets.Sheet("sheet", cards) if cards else None
