"""Texts and pictures of a row: turns as they are published, and marks in them.

`<image>` in a question is where a picture stands. Others write it otherwise
(`<|image_1|>`, `<image1>`), or put pictures where EMMA's layout has none: in an
answer, in a turn of the system, in a video. Learned as they are, such marks
would be words; rows that have them are not used, and the reason says why.
"""

from collections.abc import Mapping, Sequence
import re
from typing import Any

from emma_jax.data.pictures.images import BadRecord
from emma_jax.data.text.chat import IMAGE_MARK

_HUMAN, _MODEL = ("human", "user"), ("gpt", "assistant")
# How other sets mark a picture's place: LLaVA and LLaMA-Factory, InternVL,
# Phi-3 and OmniGen, MiniCPM, mPLUG-Owl, Qwen.
_MARKS = re.compile(
  r"<image[ _-]?\d*>|<\|image(_\d+|_pad)?\|>|<image[-_]?(here|placeholder)>|"
  r"<img_context>|<video>|<\|vision_start\|>",
  re.IGNORECASE,
)
# What a row may have besides, that no record holds.
_UNREAD = ("video", "videos", "audio", "audios")

Row = Mapping[str, Any]


def text(row: Row, key: str, where: str) -> str:
  """The text of a key; BadRecord where it is none."""
  value = row[key]
  if not isinstance(value, str):
    raise BadRecord(where, f"{key} is {value!r:.80}, not a text")
  if "\0" in value:
    raise BadRecord(
      where,
      f"{key} has zero bytes ({value[:20]!r}), as UTF-16 without its mark; "
      "save it as UTF-8",
    )
  return value


def instruction(row: Row, key: str, where: str) -> str:
  """The text that says what to make: its pictures stand in columns."""
  value = text(row, key, where)
  found = _MARKS.search(value)
  if found:
    raise BadRecord(
      where,
      f"{key} has the mark {found[0]!r}: pictures stand before an instruction; "
      "leave it out",
    )
  return value


def pictures(
  row: Row, where: str, keys: tuple[str, str] = ("images", "image")
) -> list[Any]:
  """What the keys of several and of one picture hold: none, one or several."""
  given = [
    list(value) if isinstance(value, (list, tuple)) else [value]
    for value in map(row.get, keys)
    if not _is_nothing(value)
  ]
  if len(given) == 2 and not _are_equal(*given):
    raise BadRecord(
      where, f"{' and '.join(keys)} name different pictures; keep one of them"
    )
  return given[0] if given else []


def _is_nothing(value: Any) -> bool:
  return value is None or (
    isinstance(value, (str, list, tuple)) and len(value) == 0
  )


def _are_equal(one: list[Any], other: list[Any]) -> bool:
  plain = (str, bytes, dict)  # arrays have no one answer
  return all(isinstance(v, plain) for v in one + other) and one == other


def texts(value: Any, key: str, where: str) -> tuple[list[str], list[Any]]:
  """(questions and answers in turn, pictures that stand within them).

  A turn is {from, value} or {role, content}; a content is a text or parts of
  {type: text or image}, of which a picture may be named elsewhere.

  >>> asked = [{"type": "image", "image": "a.png"}]
  >>> asked += [{"type": "text", "text": "?"}]
  >>> said = {"from": "gpt", "value": "a cat"}
  >>> texts([{"role": "user", "content": asked}, said], "messages", "here")
  (['<image>?', 'a cat'], ['a.png'])
  """
  turns = listed(value)
  if isinstance(turns, list) and turns and _speaker(turns[0]) == "system":
    raise BadRecord(
      where,
      f"{key}[0] is a turn of the system, which has no place in the layout; "
      "leave it out",
    )
  if not isinstance(turns, list) or not turns or len(turns) % 2:
    raise BadRecord(where, f"{key} are not pairs of turns")
  found: list[str] = []
  within: list[Any] = []
  for i, turn in enumerate(turns):
    speakers = _MODEL if i % 2 else _HUMAN
    if _speaker(turn) not in speakers:
      name = speakers[key == "messages"]
      raise BadRecord(where, f"{key}[{i}] is not from {name}")
    name = "value" if "value" in turn else "content"
    if name in turn and isinstance(turn[name], list):
      found.append(_joined(turn[name], f"{key}[{i}]", where, within))
    else:
      found.append(text(turn, name if name in turn else "value", where))
  return found, within


def _speaker(turn: Any) -> Any:
  return turn.get("from", turn.get("role")) if isinstance(turn, dict) else None


def _joined(
  parts: Sequence[Any], key: str, where: str, within: list[Any]
) -> str:
  """The text of a content's parts; its pictures go to `within`."""
  out = []
  for part in parts:
    kind = part.get("type") if isinstance(part, dict) else None
    if kind == "text":
      out.append(text(part, "text", where))
    elif kind in ("image", "image_url"):
      value = part.get(kind)
      value = part.get("path") if value is None else value
      if isinstance(value, dict) and "url" in value:
        value = value["url"]
      within += [] if value is None else [value]
      out.append(IMAGE_MARK)
    else:
      raise BadRecord(where, f"{key} holds {part!r:.80}, not a text or picture")
  return "".join(out)


def check_turns(
  row: Row, values: Sequence[Any], said: Sequence[str], where: str
) -> None:
  """BadRecord for what would be learned as words, or not at all."""
  for key in _UNREAD:
    if not _is_nothing(row.get(key)):
      raise BadRecord(
        where, f"{key} is {row[key]!r:.80}: only pictures and texts are read"
      )
  if not _is_nothing(row.get("system")):
    raise BadRecord(
      where, "it has a text of the system, which has no place in the layout"
    )
  for i, question in enumerate(said[2::2], start=1):
    if not question.strip():  # the first may be nothing but its picture
      raise BadRecord(where, f"question {i} is empty")
  if not values or any(IMAGE_MARK in question for question in said[::2]):
    return
  for i, value in enumerate(said):
    found = _MARKS.search(value)
    if found and (i % 2 == 0 or found[0] == IMAGE_MARK):
      place = "an answer" if i % 2 else "a question"
      raise BadRecord(
        where,
        f"{place} marks a picture by {found[0]!r}; a picture's mark is "
        f"{IMAGE_MARK}, in a question",
      )


def listed(value: Any) -> Any:
  """TensorFlow Datasets give a list of dicts as a dict of lists."""
  if isinstance(value, dict) and value:
    columns = [v for v in value.values() if isinstance(v, list)]
    if len(columns) == len(value) and len(set(map(len, columns))) == 1:
      return [dict(zip(value, cells)) for cells in zip(*columns)]
  return value
