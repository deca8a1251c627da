"""Editing instructions as rules: turned around, and their quoted texts.

What no rule fits is not guessed at: None.
"""

import dataclasses
import re
import unicodedata

_QUOTED = r"[\"“'‘「](?P<{}>[^\"”’」]+?)[\"”'’」]"
_TEXT = r"(?:the )?(?:text|words?|title|sign|label|letters|caption)"
# What each says with words of its own; the first that fits, as a whole.
_REPLACE_TEXT = re.compile(
  rf"^(?:replace|change|edit) (?:{_TEXT} )?(?:of )?{_QUOTED.format('old')} "
  rf"(?:with|to|by|into) (?:{_TEXT} )?{_QUOTED.format('new')}$",
  re.I,
)
_REMOVE_TEXT = re.compile(
  rf"^(?:remove|delete|erase) (?:{_TEXT} )?{_QUOTED.format('old')}"
  r"(?: from (?P<place>.+))?$",
  re.I,
)
_ADD_TEXT = re.compile(
  rf"^(?:add|write|insert) (?:{_TEXT} )?{_QUOTED.format('new')}"
  r"(?: (?:to|on|onto|in) (?P<place>.+))?$",
  re.I,
)
_ADD = re.compile(
  r"^(?:add|insert|put) (?:a |an |the |some )?(?P<what>.+?)"
  r"(?: (?P<word>to|on|onto|in|into|at|next to|beside) (?P<place>.+))?$",
  re.I,
)
_REMOVE = re.compile(
  r"^(?:remove|delete|erase|take away) (?P<what>.+?)"
  r"(?: from (?P<place>.+))?$",
  re.I,
)
_REPLACE = re.compile(
  r"^(?:replace|swap|exchange) (?P<old>.+?) (?:with|for|by) (?P<new>.+)$", re.I
)
_COLOUR = re.compile(
  r"^(?:change|turn) (?:the )?colou?r of (?P<what>.+?) from (?P<old>.+?) to "
  r"(?P<new>.+)$",
  re.I,
)
_TURN = re.compile(
  r"^(?:change|turn|make) (?P<what>.+?) from (?P<old>.+?) (?:to|into) "
  r"(?P<new>.+)$",
  re.I,
)


@dataclasses.dataclass(frozen=True)
class TextEdit:
  """The words that an edit takes away and brings; None: none."""

  old: str | None
  new: str | None


def reverse(instruction: str) -> str | None:
  """The instruction that undoes an edit.

  >>> reverse("Add a red hat to the man.")
  'Remove the red hat from the man.'
  >>> reverse('replace the text "SALE" with "OPEN"')
  'Replace the text "OPEN" with "SALE".'
  >>> reverse("change the colour of the car from red to blue")
  'Change the colour of the car from blue to red.'
  >>> reverse("make it look better") is None
  True
  """
  bare = _bare(instruction)
  if m := _REPLACE_TEXT.match(bare):
    return f'Replace the text "{m["new"]}" with "{m["old"]}".'
  if m := _REMOVE_TEXT.match(bare):
    place = f" to {m['place']}" if m["place"] else ""
    return f'Add the text "{m["old"]}"{place}.'
  if m := _ADD_TEXT.match(bare):
    place = f" from {m['place']}" if m["place"] else ""
    return f'Remove the text "{m["new"]}"{place}.'
  if re.search(r" and (?:add|remove|replace|change|make|turn)\b", bare, re.I):
    return None  # several edits: the rules know of one
  if m := _COLOUR.match(bare):
    return f"Change the colour of {m['what']} from {m['new']} to {m['old']}."
  if m := _TURN.match(bare):
    return f"Change {m['what']} from {m['new']} to {m['old']}."
  if m := _REPLACE.match(bare):
    return f"Replace {m['new']} with {m['old']}."
  if m := _ADD.match(bare):
    # "in a hat" tells which man; "to the table" where he goes.
    word = m["word"] or ""
    word = "from" if word.lower() in ("to", "onto", "into") else word
    place = f" {word} {m['place']}" if m["place"] else ""
    return f"Remove the {m['what']}{place}."
  if m := _REMOVE.match(bare):
    place = f" to {m['place']}" if m["place"] else ""
    return f"Add {m['what']}{place}."
  return None


def text_edit(instruction: str) -> TextEdit | None:
  """What an edit of text does; None for an edit of anything else.

  >>> text_edit('Change the word "old" to "new"')
  TextEdit(old='old', new='new')
  >>> text_edit("add a dog") is None
  True
  """
  bare = _bare(instruction)
  for pattern in (_REPLACE_TEXT, _REMOVE_TEXT, _ADD_TEXT):
    if m := pattern.match(bare):
      found = m.groupdict()
      return TextEdit(found.get("old"), found.get("new"))
  return None


def _bare(instruction: str) -> str:
  return " ".join(instruction.split()).rstrip(" .!").removeprefix("Please ")


def contains(lines: list[str], wanted: str) -> bool:
  """Whether words stand in what was read, one after the other.

  Case, widths and punctuation do not count; words are whole, characters of
  languages without spaces are words.

  >>> contains(["Grand OPENING!"], "grand opening"), contains(["party"], "art")
  (True, False)
  >>> contains(["欢迎光临"], "光临")
  True
  """
  need = _units(wanted)
  have = [u for line in lines for u in _units(line)]
  if not need:
    return False
  return any(
    have[i : i + len(need)] == need for i in range(len(have) - len(need) + 1)
  )


def count_words(lines: list[str]) -> int:
  """Words, as `contains` takes them."""
  return sum(len(_units(line)) for line in lines)


def _units(text: str) -> list[str]:
  folded = unicodedata.normalize("NFKC", text).casefold()
  return re.findall(r"[\u3040-\u30ff\u3400-\u9fff]|[^\W\u3040-\u9fff]+", folded)
