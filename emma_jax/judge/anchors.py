"""Calibration: fixed calls, asked again, against the replies of before.

A judge behind a name changes without a word; how far it has moved is seen where
it judges what it has judged already. Anchors are JSON lines:

  {"id": "gedit/17/0/sc", "text": "...", "system": "", "pictures": ["ab12"],
   "options": {}, "attempt": 0, "text_first": false, "reply": "...",
   "model": "m"}

pictures: files in a folder beside it, <name>.pictures.
"""

from collections.abc import Callable, Iterable, Sequence
from concurrent import futures
import dataclasses
import hashlib
import json
import math
import os

from emma_jax import files
from emma_jax.judge.base import Call, Judge
from emma_jax.judge.cached import Cached

_TEXTS = {"id", "text", "system", "reply", "model"}
_KEYS = _TEXTS | {"pictures", "options", "attempt", "text_first"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Anchor:
  """A call with the text of the reply it once had, and who gave that."""

  call: Call
  reply: str
  model: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Drift:
  """How far a judge is from its anchors.

  Args:
    n: anchors that could be compared.
    mean_abs_diff: of all their numbers; None: no anchor could be compared.
    failed: id -> why an anchor could not be: "refused: ...", or what the reply
      lacks.
    models: that replied, as the server names them.
  """

  n: int
  mean_abs_diff: float | None
  failed: dict[str, str]
  models: tuple[str, ...]


def save(path: str, anchors: Iterable[Anchor]) -> None:
  """Writes anchors, their pictures first."""
  folder = _pictures(path)
  lines = []
  for anchor in anchors:
    names = []
    for data in anchor.call.pictures:
      names.append(hashlib.sha256(data).hexdigest())
      with files.atomic_write(os.path.join(folder, names[-1])) as file:
        file.write(data)
    call = anchor.call.content() | {"id": anchor.call.id, "pictures": names}
    line = call | {"reply": anchor.reply, "model": anchor.model}
    lines.append(json.dumps(line, ensure_ascii=False) + "\n")
  files.write_text(path, "".join(lines))


def load(path: str) -> list[Anchor]:
  """Anchors that `save` wrote.

  Raises:
    ValueError: a line that is no anchor, or whose pictures are not those of
      before; names file and line.
    OSError: a file is missing.
  """
  found: list[Anchor] = []
  ids: set[str] = set()
  with open(path, encoding="utf-8") as file:
    for number, line in enumerate(file, 1):
      try:
        anchor = _anchor(path, json.loads(line))
        if anchor.call.id in ids:
          raise ValueError(f"a second anchor {anchor.call.id!r}; delete one")
        ids.add(anchor.call.id)
        found.append(anchor)
      except (ValueError, TypeError) as error:
        raise ValueError(f"{path}, line {number}: {error}") from error
  return found


def _anchor(path: str, row: dict) -> Anchor:
  if not isinstance(row, dict) or set(row) != _KEYS:
    raise ValueError(f"{row!r:.60} has to have {sorted(_KEYS)}")
  if wrong := sorted(k for k in _TEXTS if not isinstance(row[k], str)):
    raise ValueError(f"{wrong} have to be texts")
  reply, model = row.pop("reply"), row.pop("model")
  pictures = []
  for name in row.pop("pictures"):
    with open(os.path.join(_pictures(path), name), "rb") as file:
      pictures.append(file.read())
    if hashlib.sha256(pictures[-1]).hexdigest() != name:
      raise ValueError(f"the picture {name} has been changed")
  call = Call(pictures=tuple(pictures), **row)
  return Anchor(call=call, reply=reply, model=model)


def _pictures(path: str) -> str:
  return f"{path}.pictures"


def drift(
  judge: Judge,
  anchors: Sequence[Anchor],
  numbers: Callable[[Anchor, str], Sequence[float]],
  threads: int = 1,
) -> Drift:
  """Asks all anchors anew, past any replies that are kept.

  Args:
    judge: that is asked.
    anchors: of it, or of another judge, that are compared with.
    numbers: (anchor, reply) -> its numbers; ValueError: it has none.
    threads: calls at a time.

  Raises:
    JudgeError: of the judge.
  """
  asked = judge.judge if isinstance(judge, Cached) else judge
  with futures.ThreadPoolExecutor(threads) as pool:
    replies = list(pool.map(lambda anchor: asked.ask(anchor.call), anchors))
  differences: list[float] = []
  failed, compared = {}, 0
  for anchor, reply in zip(anchors, replies):
    name = anchor.call.id
    if reply.status != "ok":
      failed[name] = f"{reply.status}: {reply.error}"
      continue
    try:
      before = numbers(anchor, anchor.reply)
      after = numbers(anchor, reply.text)
    except ValueError as error:
      failed[name] = f"unparsable: {error}"
      continue
    if len(before) != len(after) or not before:
      failed[name] = f"{len(after)} numbers in place of {len(before)}"
      continue
    found = [abs(a - b) for a, b in zip(before, after)]
    if not all(map(math.isfinite, found)):
      failed[name] = f"{list(after)} in place of {list(before)}"
      continue
    differences += found
    compared += 1
  count = len(differences)
  return Drift(
    n=compared,
    mean_abs_diff=math.fsum(differences) / count if count else None,
    failed=failed,
    models=tuple(sorted({r.model for r in replies if r.model})),
  )
