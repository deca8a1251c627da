"""What the rehearsal's judges say, to every call that its sets can come to.

The protocols are run on made-up predictions, and what they ask is answered and
written down: so no call is forgotten. It is made up whatever is asked, by the
call's name: good marks and bad ones, whatever was predicted. Three replies are
no use, to show what becomes of them: one is refused, one cannot be read, one is
not there.
"""

from collections.abc import Iterator, Mapping, Sequence
import hashlib
import json
import math
import os
from typing import Any

from emma_jax.benchmarks import suite
from emma_jax.benchmarks.data import folder as data
from emma_jax.benchmarks.items import Item
from emma_jax.benchmarks.records import Prediction
from emma_jax.benchmarks.scoring import geneval2
from emma_jax.benchmarks.smoke import pictures, writing
from emma_jax.benchmarks.suite import Case, Made
from emma_jax.judge.base import Call, Reply

REFUSED = "gedit/g2/0/sc"
UNREADABLE = "imgedit/3/0/marks"
ABSENT = "longtext/1/0/read"
# (folder, set, split) of the judged sets, but for those that share ids with
# others: GenEval's rewritten prompts have the calls of the short ones.
_JUDGED = (
  *(("", "mmbench", ""), ("", "mmmu", ""), ("", "mathvista", "")),
  *(("", "ai2d", ""), ("", "mmstar", ""), ("", "mmvet", "")),
  *(("", "geneval", ""), ("", "dpg", ""), ("", "gedit", "en")),
  *(("cn", "gedit", "cn"), ("", "imgedit", ""), ("", "emu_edit", "")),
  *(("", "geneval2", ""), ("", "wise_verified", "")),
  *(("", "longtext", "en"), ("", "longtext", "zh"), ("", "rise", "")),
)
# Of sets whose judges' texts are not part of this package: no call is made of
# the others.
_OURS = {"wise_verified": ("own",), "rise": ("own",)}
_MODEL = "rehearsal"
# An answer of which no rule can tell what it chooses.
_VAGUE = "it is hard to say"
_SIDE = 96  # pixels, of a made-up picture


def make(folder: str) -> None:
  """Writes judge.jsonl into a folder of test sets that are there."""
  rows = [
    row
    for inner, name, split in _JUDGED
    for row in _of_set(os.path.join(folder, inner), name, split)
  ]
  writing.lines(os.path.join(folder, "judge.jsonl"), rows)


def _of_set(folder: str, name: str, split: str) -> Iterator[Mapping[str, Any]]:
  benchmark = suite.find(name)
  source = data.open_set(folder, name, split)
  for number in range(len(source)):
    item = source[number]
    said: dict[str, dict[str, Any]] = {}

    def judge(call: Call, item=item, said=said) -> Reply:
      row = _row(name, item, call)
      if call.id != ABSENT:
        said[call.id] = row
      return Reply(
        status="refused" if "refused" in row else "ok",
        text=row.get("text", ""),
        logprobs=row.get("logprobs", {}),
      )

    for impl in _OURS.get(name, benchmark.impls):
      case = Case(
        set_name=name,
        item=item,
        made=[_made(item, repeat) for repeat in range(benchmark.repeats)],
        impl=impl,
        judge=judge,
      )
      benchmark.score(case)
    yield from said.values()


def _made(item: Item, repeat: int) -> Made:
  prediction = Prediction(
    id=item.id, repeat=repeat, key="", settings="", prompt="", text=_VAGUE
  )
  grey = pictures.png(pictures.blank(_SIDE, _SIDE, "grey"))
  return Made(prediction=prediction, load=lambda: grey)


def _row(name: str, item: Item, call: Call) -> dict[str, Any]:
  """The line of a call, SET/ITEM/REPEAT/PART or .../PART/ATTEMPT."""
  row: dict[str, Any] = {"call": call.id, "model": _MODEL}
  _, _, repeat, part, *_ = call.id.split("/")
  if call.id.startswith(REFUSED):  # in all attempts
    return row | {"refused": "no such pictures are looked at"}
  if call.id == UNREADABLE:
    return row | {"text": "A lovely picture, and well done."}
  if name == "geneval2":
    return row | _token(item, call, int(part.removeprefix("q")))
  return row | {"text": _TEXTS[name](item, call, int(repeat))}


def _pick(call: Call, choices: Sequence[Any]) -> Any:
  """By the call's name alone."""
  digest = hashlib.blake2b(call.id.encode(), digest_size=4).digest()
  return choices[int.from_bytes(digest) % len(choices)]


def _letter(item: Item, call: Call, repeat: int) -> str:
  """The right one two times in three; "A" is an open question's answer."""
  right = item.answers[0] if item.options else "A"
  return _pick(call, (right, right, "B"))


def _extracted(item: Item, call: Call, repeat: int) -> str:
  """The answer, or a wrong one of its type."""
  wrong = {"integer": "3", "float": "1.0", "list": "[1, 2]"}
  other = wrong.get(item.meta["answer_type"], "A")
  return _pick(call, (item.answers[0], item.answers[0], other))


def _rating(item: Item, call: Call, repeat: int) -> str:
  return _pick(call, ("0.0", "0.3", "0.5", "1.0"))


def _detections(item: Item, call: Call, repeat: int) -> str:
  """All that a prompt asks for, side by side; of the last picture, one box
  less.

  What is to be left of another stands before it.
  """
  include = item.meta["checks"]["include"]
  ordered = sorted(include, key=lambda one: one.get("position", ["z"])[0])
  boxes: dict[str, list[dict[str, Any]]] = {}
  wanted = [one for one in ordered for _ in range(one["count"])]
  for n, one in enumerate(wanted[: -1 if repeat % 4 == 3 else None]):
    box: dict[str, Any] = {
      "box": [4 + 30 * n, 30, 26 + 30 * n, 60],
      "score": 0.95,
    }
    if "color" in one:
      box["color"] = one["color"]
    boxes.setdefault(one["class"], []).append(box)
  return json.dumps({"objects": boxes})


def _yes_no(item: Item, call: Call, repeat: int) -> str:
  return _pick(call, ("yes", "yes", "no"))


def _scores(item: Item, call: Call, repeat: int) -> str:
  """VIEScore's form."""
  marks = _pick(call, ([8, 9], [6, 7], [3, 8], [9, 4]))
  return json.dumps({"score": marks, "reasoning": "A rehearsal."})


def _marks(item: Item, call: Call, repeat: int) -> str:
  """ImgEdit's form: a sentence, then three lines with a mark."""
  first, second, third = _pick(call, ((5, 4, 4), (3, 3, 2), (4, 4, 3)))
  return (
    f"Brief reasoning: a rehearsal\nPrompt Compliance: {first}\n"
    f"Visual Naturalness: {second}\nPhysical & Detail Integrity: {third}"
  )


def _features(item: Item, call: Call, repeat: int) -> str:
  """Vectors of four numbers, of both pictures and of both captions."""
  edited = _pick(call, ([0.5, 1.0, 0.5, 0.0], [1.0, 0.2, 0.0, 0.1]))
  after = _pick(call, ([0.2, 1.0, 0.2, 0.0], [0.4, 0.4, 1.0, 0.0]))
  texts = [[1.0, 0.0, 0.2, 0.0], after] if json.loads(call.text) else []
  return json.dumps({"images": [[1.0, 0.0, 0.0, 0.1], edited], "texts": texts})


def _verdict(item: Item, call: Call, repeat: int) -> str:
  return _pick(call, ("Score: 1", "Score: 1", "Score: 0"))


def _words(item: Item, call: Call, repeat: int) -> str:
  """All that is to be written, or but the first half of it."""
  text = " ".join(item.meta["text"])
  return text[: _pick(call, (len(text), len(text) // 2))]


def _final_score(item: Item, call: Call, repeat: int) -> str:
  logical = item.meta["category"] == "logical_reasoning"
  mark = _pick(call, (1, 1, 0) if logical else (5, 5, 3))
  return f"It looks as it should.\nFinal Score: {mark}"


def _token(item: Item, call: Call, number: int) -> dict[str, Any]:
  """The first token, and how likely it and others are."""
  question, answer = item.meta["questions"][number]
  right, big = geneval2.spellings(question, answer)[:2]
  shares = {right: _pick(call, (0.8, 0.4)), big: 0.1, "No": 0.05}
  logprobs = {text: round(math.log(p), 4) for text, p in shares.items()}
  return {"text": right, "logprobs": logprobs}


_TEXTS = {
  **dict.fromkeys(("mmbench", "mmmu", "ai2d", "mmstar"), _letter),
  "mathvista": _extracted,
  "mmvet": _rating,
  "geneval": _detections,
  "dpg": _yes_no,
  "gedit": _scores,
  "imgedit": _marks,
  "emu_edit": _features,
  "wise_verified": _verdict,
  "longtext": _words,
  "rise": _final_score,
}
