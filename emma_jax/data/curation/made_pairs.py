"""How well duplicates are told, measured on pairs made of a data set.

Of each record are made near-copies (re-encoded, resized, cropped), which are
its duplicates, and records that are none: a thing in another colour, two parts
of the picture exchanged, another text. Besides all records of the set are
compared with each other as if they said the same.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
import dataclasses
import io

import numpy as np
from PIL import Image

from emma_jax.data.curation import duplicates
from emma_jax.data.curation.base import pixels
from emma_jax.data.curation.duplicates import Dedup, Signature
from emma_jax.data.ingest.part import Converted
from emma_jax.data.loading import sources
from emma_jax.data.pictures.encoded import encoded
from emma_jax.data.pictures.images import BadRecord
from emma_jax.data.records import schema
from emma_jax.structs import Drawing, Editing, Understanding

RADII = (0, 1, 2, 3, 4, 6, 8, 12)
TRUE = ("re-encoded", "resized", "cropped 2%", "cropped 5%")
FALSE = ("recoloured", "moved", "re-captioned")
OTHERS = "another record"
# A change that people see: levels of 255, the mean over what is changed.
_SEEN = 24
# Bits between two that are duplicates at no radius.
_NEVER = 1 << 16


@dataclasses.dataclass(frozen=True)
class Measured:
  """Bits (n,) between the two of each pair, by kind; _NEVER: none at all."""

  bits: dict[str, np.ndarray]
  records: int

  def share(self, kind: str, radius: int) -> float:
    """Of the pairs of a kind that count as duplicates within `radius`."""
    return float((self.bits[kind] <= radius).mean())

  def recall(self, radius: int) -> float:
    """Of all near-copies, the share that is found."""
    return self._found(TRUE, radius) / max(self._pairs(TRUE), 1)

  def precision(self, radius: int) -> float:
    """Of all made pairs that count as duplicates, the share that are."""
    true, false = self._found(TRUE, radius), self._found(FALSE, radius)
    return true / (true + false) if true + false else 1.0

  def _found(self, kinds: Sequence[str], radius: int) -> int:
    kinds = [k for k in kinds if k in self.bits]
    return sum(int((self.bits[k] <= radius).sum()) for k in kinds)

  def _pairs(self, kinds: Sequence[str]) -> int:
    return sum(self.bits[k].size for k in kinds if k in self.bits)


def first(spec: str, count: int) -> tuple[list[schema.Stored], int]:
  """The first `count` sound records with pictures, and how many were broken.

  Pictures are as bytes. Raises ValueError, as sources.open_source.
  """
  source, bad = sources.open_source(spec), 0
  found: list[schema.Stored] = []
  for index in range(len(source)):
    if len(found) == count:
      break
    try:
      record = source[index]
      held = schema.Stored(record=record)
      if not held.pictures or any(p is None for p in held.pictures):
        continue
      # Where pictures may lie the source has decided.
      held = _with_pictures(
        held,
        [encoded(p, "picture", record.id, "", True) for p in held.pictures],
      )
      for picture in held.pictures:
        pixels(picture, record.id)
    except BadRecord:
      bad += 1
      continue
    found.append(held)
  return found, bad


def measure(stored: Sequence[schema.Stored], dedup: Dedup) -> Measured:
  """Of records with pictures as bytes, as `dedup` compares them.

  Raises:
    BadRecord: a picture that cannot be read.
  """
  sign = lambda one: dedup.sign(Converted(one, []), one.record.id)
  wide = dataclasses.replace(dedup, text="never")
  bits: dict[str, list[int]] = {}
  alike = []
  for number, one in enumerate(stored):
    own = sign(one)
    alike.append(wide.sign(Converted(one, []), one.record.id))
    other = stored[(number + 1) % len(stored)]
    for kind, made in variants(one, other, np.random.default_rng(number)):
      bits.setdefault(kind, []).append(_bits_between(own, sign(made)))
  found = {kind: np.array(all_of) for kind, all_of in bits.items()}
  if len(stored) > 1:
    found[OTHERS] = _to_others(alike)
  return Measured(found, len(stored))


def table(measured: Measured, radius: int) -> list[str]:
  """Lines for people: a row a kind, a column a radius; `radius`: the chosen."""
  heads = [f"[{r}]" if r == radius else str(r) for r in RADII]
  line = lambda name, count, cells: (
    f"{name:18}{count:>7}  " + "".join(f"{cell:>8}" for cell in cells)
  ).rstrip()
  percent = lambda of: [f"{100 * of(r):.1f}%" for r in RADII]
  lines = [
    "Pairs that count as duplicates, by bits that may differ (radius):",
    line("", "pairs", heads),
  ]
  for kind in (*TRUE, *FALSE, OTHERS):
    if kind not in measured.bits:
      lines.append(line(kind, 0, ()))
      continue
    shares = percent(lambda r, kind=kind: measured.share(kind, r))
    lines.append(line(kind, measured.bits[kind].size, shares))
  lines.append(line("recall", "", percent(measured.recall)))
  lines.append(line("precision", "", percent(measured.precision)))
  lines.append(
    f"Recall: of {', '.join(TRUE)}. Precision: those beside {', '.join(FALSE)}."
  )
  lines.append(
    f"{OTHERS}: records that a different one of the set would take with it if "
    "both said the same."
  )
  return lines


def variants(
  one: schema.Stored, other: schema.Stored, rng: np.random.Generator
) -> Iterator[tuple[str, schema.Stored]]:
  """(kind, a record made of `one`); kinds that it allows.

  Near-copies are of all its pictures; what is none has the last one changed,
  of an edit the target. `other` lends its text.
  """
  arrays = [pixels(p, one.record.id) for p in one.pictures]
  for kind, copies in _COPIES.items():
    for copy in copies:
      yield kind, _with_pictures(one, [copy(a) for a in arrays])
  for kind, change in (("recoloured", recoloured), ("moved", moved)):
    changed = change(arrays[-1], rng) if arrays else None
    if changed is not None:
      last = _encoded(changed, "PNG")
      yield kind, _with_pictures(one, [*one.pictures[:-1], last])
  yield "re-captioned", _with_text(one, other)


def _bits_between(one: Signature, other: Signature) -> int:
  """By the same code that decides of whole sets."""
  both = duplicates.columns([one, other])
  thumbs = both.pop("thumbs")
  kept_by, far = duplicates.duplicates(
    **both,
    rank=np.arange(2),
    radius=max(RADII),
    look=lambda rows: _rows_of(thumbs, both["count"], rows),
  )
  return int(far[1]) if kept_by[1] == 0 else _NEVER


def _to_others(signatures: Sequence[Signature]) -> np.ndarray:
  """Bits (n,) to the nearest duplicate whose pixels are not the same."""
  out = np.full(len(signatures), _NEVER)
  all_of = duplicates.columns(signatures)
  thumbs = all_of.pop("thumbs")
  exact = all_of["exact"]
  for radius in reversed(RADII):
    kept_by, _ = duplicates.duplicates(
      **all_of,
      rank=np.arange(exact.size),
      radius=radius,
      look=lambda rows: _rows_of(thumbs, all_of["count"], rows),
    )
    out[exact[kept_by] != exact] = radius
  return out


def _rows_of(
  thumbs: np.ndarray, count: np.ndarray, rows: np.ndarray
) -> np.ndarray:
  first = (np.cumsum(count) - count) // 2
  return thumbs[first[rows, None] + np.arange(count[rows[0]] // 2)]


# ------------------------------------------------------------------ near-copies


def _encoded(picture_YXC: np.ndarray, kind: str, **options: int) -> bytes:
  out = io.BytesIO()
  Image.fromarray(picture_YXC).save(out, kind, **options)
  return out.getvalue()


def _coded(kind: str, quality: int) -> Callable[[np.ndarray], bytes]:
  return lambda picture: _encoded(picture, kind, quality=quality)


def _resized(scale: float) -> Callable[[np.ndarray], bytes]:
  def make(picture_YXC: np.ndarray) -> bytes:
    y, x, _ = picture_YXC.shape
    size = max(1, round(x * scale)), max(1, round(y * scale))
    image = Image.fromarray(picture_YXC)
    return _encoded(
      np.asarray(image.resize(size, Image.Resampling.BICUBIC)), "PNG"
    )

  return make


def _cropped(share: float) -> Callable[[np.ndarray], bytes]:
  def make(picture_YXC: np.ndarray) -> bytes:
    y, x, _ = picture_YXC.shape
    lost = [min(n - 1, max(1, round(n * share))) for n in (y, x)]
    top, left = (n // 2 for n in lost)
    bottom, right = y - lost[0] + top, x - lost[1] + left
    return _encoded(
      np.ascontiguousarray(picture_YXC[top:bottom, left:right]), "PNG"
    )

  return make


_COPIES: dict[str, list[Callable[[np.ndarray], bytes]]] = {
  "re-encoded": [_coded("JPEG", 90), _coded("JPEG", 50), _coded("WEBP", 75)],
  "resized": [_resized(0.5), _resized(0.75), _resized(1.5)],
  "cropped 2%": [_cropped(0.02)],
  "cropped 5%": [_cropped(0.05)],
}


# ---------------------------------------------------------------- no duplicates


def recoloured(
  picture_YXC: np.ndarray, rng: np.random.Generator
) -> np.ndarray | None:
  """Everything of the commonest strong hue in another; a part of a grey one.

  None where nobody would see it.
  """
  hsv = np.asarray(Image.fromarray(picture_YXC).convert("HSV"), np.int32)
  strength = hsv[..., 1] * hsv[..., 2] // 255
  bins = hsv[..., 0] * 12 // 256
  weight = np.bincount(
    bins.ravel(), strength.ravel() * (strength > 64).ravel(), 12
  )
  mask = (strength > 64) & (bins == weight.argmax())
  out = picture_YXC.copy()
  if mask.mean() > 0.002:
    out[mask] = out[mask][:, [1, 2, 0]]
  else:
    for place in rng.permutation(16):
      part = _part(picture_YXC, place)
      if picture_YXC[part].mean() > 2 * _SEEN:
        mask = np.zeros(mask.shape, bool)
        mask[part] = True
        out[part] = out[part] // np.array([1, 2, 2], np.uint8)
        break
  seen = np.abs(out[mask].astype(np.int16) - picture_YXC[mask])
  return out if seen.size and seen.mean() >= _SEEN else None


def moved(
  picture_YXC: np.ndarray, rng: np.random.Generator
) -> np.ndarray | None:
  """Two of 4 x 4 parts exchanged, by chance among those that differ.

  None where nobody would see it.
  """
  parts = [_part(picture_YXC, place) for place in range(16)]
  pairs = [(a, b) for a in range(16) for b in range(a)]
  for a, b in rng.permutation(pairs):
    one, other = picture_YXC[parts[a]], picture_YXC[parts[b]]
    if one.size and np.abs(one.astype(np.int16) - other).mean() >= _SEEN:
      out = picture_YXC.copy()
      out[parts[a]], out[parts[b]] = other, one
      return out
  return None


def _part(picture_YXC: np.ndarray, place: int) -> tuple[slice, slice]:
  """One of 4 x 4 parts, all of one size."""
  y, x = (n // 4 for n in picture_YXC.shape[:2])
  top, left = place // 4 * y, place % 4 * x
  return slice(top, top + y), slice(left, left + x)


def _with_pictures(
  stored: schema.Stored, pictures: Iterable[bytes]
) -> schema.Stored:
  record, made = stored.record, tuple(pictures)
  if isinstance(record, Understanding):
    record = dataclasses.replace(record, pictures=made)
  elif isinstance(record, Drawing):
    record = dataclasses.replace(record, picture=made[0])
  else:
    record = dataclasses.replace(record, sources=made[:-1], target=made[-1])
  return dataclasses.replace(stored, record=record)


def _with_text(stored: schema.Stored, other: schema.Stored) -> schema.Stored:
  """The record with the other's text, or, where that is the same, a longer."""
  record, lender = stored.record, other.record
  if isinstance(record, Understanding):
    (question, answer), *rest = record.turns
    changed = record.turns
    if isinstance(lender, Understanding):
      changed = ((question, lender.turns[0][1]), *rest)
    if changed == record.turns:
      changed = ((question, f"{answer} Why?"), *rest)
    record = dataclasses.replace(record, turns=changed)
  elif isinstance(record, Drawing):
    text = getattr(lender, "prompt", record.prompt)
    if text == record.prompt:
      text = f"{text}, again"
    record = dataclasses.replace(record, prompt=text)
  else:
    assert isinstance(record, Editing)
    text = getattr(lender, "instruction", record.instruction)
    if text == record.instruction:
      text = f"{text}, again"
    record = dataclasses.replace(record, instruction=text)
  return dataclasses.replace(stored, record=record)
