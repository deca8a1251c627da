"""Small runs that are finished: their folders, made without model or judge."""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
import hashlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from configs.benchmarks import defaults
from emma_jax.benchmarks import (
  asked,
  folders,
  numbers,
  records,
  scored,
  settings,
  suite,
)
from emma_jax.benchmarks.data import folder as data_folder
from emma_jax.benchmarks.folders import SetFolder
from emma_jax.benchmarks.items import Item
from emma_jax.benchmarks.records import Judgement, Prediction
from emma_jax.judge.base import Call, Reply

Say = Callable[[Item, int], Mapping[str, Any]]
RUN = {
  "checkpoint": "runs/x",
  "step": 30,
  "weights": "w" * 64,
  "device": "cpu",
  "versions": {"emma_jax": "1", "python": "3.11"},
}


def png(colour: int, size: int = 40) -> bytes:
  out = io.BytesIO()
  pixels = np.full((size, size + 8, 3), colour, np.uint8)
  pixels[: size // 2, :, 0] = 255 - colour
  Image.fromarray(pixels).save(out, "PNG")
  return out.getvalue()


def lay(data: Path, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
  """A set of our own lines; every item has a picture."""
  folder = data / name
  folder.mkdir(parents=True, exist_ok=True)
  lines = []
  for n, row in enumerate(rows):
    (folder / f"{n}.png").write_bytes(png(7 * n % 256))
    lines.append(json.dumps({"pictures": [f"{n}.png"], **row}))
  (folder / "items.jsonl").write_text("\n".join(lines) + "\n")


def charts(data: Path, count: int = 40) -> None:
  """Questions of ChartQA; the answer to number n is n + 1."""
  lay(
    data,
    "chartqa",
    [
      {
        "id": f"{n:03d}",
        "question": f"How many of {n}?",
        "answers": [str(n + 1)],
        "group": f"page {n // 2}",
        "meta": {"split": "test_human" if n % 4 else "test_augmented"},
      }
      for n in range(count)
    ],
  )


def says(wrong: Sequence[int] = (), spaced: Sequence[int] = ()) -> Say:
  """Right answers but for some; white space, which rules take differently."""

  def say(item: Item, repeat: int) -> dict[str, Any]:
    n = int(item.id)
    text = str(-5 if n in wrong else n + 1)
    return {"text": f"{text} units" if n in spaced else text}

  return say


@dataclasses.dataclass
class Finished:
  """A run's folder that sets are added to.

  out: the folder. data: of the test sets. config: of all.
  """

  out: Path
  data: Path
  name: str = "paper"

  def __post_init__(self):
    self.config = defaults.base().to_dict()
    self.config |= {"name": self.name, "data": str(self.data)}
    self.sets: list[dict[str, Any]] = []

  def add(
    self,
    name: str,
    say: Say,
    *,
    reply: Callable[[Call], Reply] | None = None,
    identity: Mapping[str, Any] | None = None,
    changes: Mapping[str, Any] | None = None,
    **section: Any,
  ) -> dict[str, Any]:
    """Runs a set: predictions, replies, outcomes, and its entry.

    Args:
      name: of the set.
      say: what is predicted, fields of a Prediction; "draw": a file.
      reply: of the judge, to whatever the scorer asks.
      identity: of the judge.
      changes: of the entry.
      section: of the config.
    """
    self.config["sets"][name] = defaults.a_set(**section).to_dict()
    chosen = settings.of(name, self.config["sets"][name], self.config["data"])
    source = data_folder.open_set(
      chosen.data, chosen.benchmark.name, chosen.split
    )
    place = SetFolder(str(self.out), name)
    decides = {"weights": "w", "steps": chosen.steps, "max_tokens": 16}
    place.note(chosen, decides, source)
    items = list(scored.chosen(source, chosen.limit))
    made = [
      self._predict(place, item, repeat, say, records.digest(decides), chosen)
      for item in items
      for repeat in range(chosen.repeats)
    ]
    with records.Appender(place.part(0)) as out:
      out.add(made)
    place.add_timing(
      0,
      {"made": len(made), "seconds": 4.0, "model_seconds": 3.0}
      | {"tokens": 300.0, "slots": 400.0},
    )
    kept: list[Judgement] = []

    def ask(call: Call) -> Reply:
      found = reply(call) if reply else Reply(status="absent")
      content = dataclasses.asdict(found)
      kept.append(Judgement(call=call.id, key="k", judge="j", reply=content))
      return found

    by_key = {(x.id, x.repeat): x for x in made}
    numbered, lines = [], []
    for impl in chosen.impls:
      outcomes = [
        one
        for item in items
        for one in scored.of_item(item, by_key, chosen, impl, place, ask)
      ]
      outcomes = scored.merged(outcomes, chosen.benchmark)
      lines += [records.dump(x) for x in outcomes]
      numbered.append(
        numbers.number(
          outcomes,
          chosen.benchmark,
          impl=impl,
          partial=bool(chosen.limit),
          judged=bool(chosen.judge),
          max_failed=self.config["max_failed"],
          seed=0,
        ).as_json()
      )
    Path(place.outcomes).write_text("".join(lines))
    if reply:
      with records.Appender(place.judgements) as out:
        out.add(kept)
    entry = {
      "name": name,
      "set": chosen.benchmark.name,
      "title": name.upper(),
      "kind": chosen.benchmark.kind,
      "split": chosen.split,
      "impl": chosen.impl,
      "repeats": chosen.repeats,
      "prompt": chosen.prompt,
      "prompt_sha256": records.digest(sorted((x.id, x.prompt) for x in made)),
      "sampling": decides,
      "judge": {
        "name": chosen.judge,
        "identity": dict(identity or {}),
        "answered_as": {"judge-1": len(kept)} if reply else {},
        "replies": {"ok": len(kept)} if reply else {},
        "input_tokens": 1200 if reply else 0,
        "output_tokens": 30 if reply else 0,
        "anchors": None,
      },
      "run": place.noted()["run"],
      "data": place.noted()["data"]
      | {"items": len(items), "limit": chosen.limit},
      "quirks": chosen.quirks,
      "guess": chosen.guess,
      "protocol": chosen.benchmark.protocol,
      "predictions": {"made": len(made), "stale": 0, "truncated": 0},
      "timing": place.timings()[0],
      "numbers": numbered,
    } | dict(changes or {})
    self.sets.append(json.loads(json.dumps(entry)))
    return entry

  def _predict(
    self,
    place: SetFolder,
    item: Item,
    repeat: int,
    say: Say,
    made_with: str,
    chosen: settings.SetSettings,
  ) -> Prediction:
    told = dict(say(item, repeat))
    drawn = told.pop("draw", b"")
    if drawn:
      name = f"pictures/{item.id}-{repeat}.png"
      path = Path(place.path) / name
      path.parent.mkdir(parents=True, exist_ok=True)
      path.write_bytes(drawn)
      told |= {"picture": name, "sha256": hashlib.sha256(drawn).hexdigest()}
    return Prediction(
      id=item.id,
      repeat=repeat,
      key=asked.of(item, chosen).key(made_with, item.id, repeat),
      settings=made_with,
      prompt=records.digest(item.question),
      **told,
    )

  def save(self, **about: Any) -> str:
    """Writes the rest; returns the folder."""
    run = {"format": records.FORMAT, **RUN, **about}
    content = {
      "format": records.FORMAT,
      "run": run,
      "config": self.config,
      "sets": self.sets,
    }
    out = self.out
    folders.write_json(str(out / "run.json"), run)
    folders.write_json(str(out / "config.json"), self.config)
    folders.write_json(str(out / "results.json"), content)
    return str(out)


def editing(monkeypatch, score) -> None:
  """A stand-in for GEdit-Bench's protocol: edits, scored 0..10 by `score`."""
  mine = suite.Benchmark(
    name="gedit",
    kind="editing",
    task="edit",
    impls=("original", "other"),
    prompts={
      "plain": lambda item: suite.Request(
        text=item.question, pictures=item.pictures
      )
    },
    repeats=2,
    score=score,
    scale=1.0,
    unit="",
    stratum=lambda item, impl: item.meta["category"],
    categories=suite.by_category,
    judge="rating",
  )
  find = suite.find
  monkeypatch.setattr(
    suite, "find", lambda name: mine if name == "gedit" else find(name)
  )


def edits(data: Path, count: int = 12) -> None:
  """Items of GEdit-Bench."""
  lay(
    data,
    "gedit",
    [
      {
        "id": f"e{n}",
        "question": f"Paint part {n} red.",
        "meta": {"category": ("color_alter", "text_change")[n % 2]},
      }
      for n in range(count)
    ],
  )


def edited(item: Item, repeat: int) -> dict[str, Any]:
  """A picture of its own for each."""
  return {"draw": png((17 * int(item.id[1:]) + repeat) % 256, 48)}


def rate(case: suite.Case) -> list[suite.Score]:
  """By the judge's number, under one implementation half of it."""
  found = []
  for made in case.made:
    text = case.ask("sc", "Rate it.", [made.picture()], repeat=made.repeat).text
    value = float(text) / (2 if case.impl == "other" else 1)
    found.append(suite.Score(value=value, parts={"sc": value}))
  return found


def rating(call: Call) -> Reply:
  """Replies a number by the item's; refuses one."""
  n = int(call.id.split("/")[1][1:])
  if n == 3:
    return Reply(status="refused", error="content filter")
  return Reply(text=str(n % 11), model="judge-1", usage={"prompt_tokens": 3})
