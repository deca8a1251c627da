"""Whether a judge still says what it said: some calls of a run, asked anew.

A judge behind a name changes without a word, and scores with it. Anchors are
calls of an earlier run with the replies they had; each later run asks them
again and says how far the numbers in the replies have moved.
"""

from collections.abc import Mapping
import contextlib
import dataclasses
import re
from typing import Any

from emma_jax.benchmarks import asked, decide, scored
from emma_jax.benchmarks.data.folder import Source
from emma_jax.benchmarks.judges import anchors_of, judge_of
from emma_jax.benchmarks.runs import Run
from emma_jax.benchmarks.selection import rank
from emma_jax.benchmarks.settings import BadSettings
from emma_jax.benchmarks.suite import NoAnswers
from emma_jax.judge import anchors
from emma_jax.judge.anchors import Anchor, Drift
from emma_jax.judge.base import Call, Judge, Reply

_NUMBER = re.compile(r"-?\d+(?:\.\d+)?")


def collect(
  run: Run, sources: Mapping[str, Source], judge: str, count: int
) -> list[Anchor]:
  """Calls of a run that was judged, with their replies.

  Args:
    run: with its sets.
    sources: of each set.
    judge: name of it in the config.
    count: how many at most, chosen by their content.

  Raises:
    BadSettings: this judge has replied to nothing.
  """
  found: dict[str, Anchor] = {}
  identity = judge_of(run.config, judge, "", asked=False).identity()
  for one in run.sets:
    if one.judge != judge:
      continue
    place = run.place(one)
    replay = decide.Replay(place, identity)

    def ask(call: Call, replay=replay) -> Reply:
      reply = replay(call)
      if reply.status == "ok" and numbers_in(reply.text):
        found[call.id] = Anchor(call=call, reply=reply.text, model=reply.model)
      return reply

    predictions, _ = asked.answered(sources[one.name], one, place)
    with contextlib.suppress(NoAnswers):
      for item in scored.chosen(sources[one.name], one.limit):
        scored.by_all(item, predictions, one, place, ask)
  if not found:
    raise BadSettings(
      f"The judge {judge!r} has given no number to any set of this run; run "
      "`emma-benchmark judge` first."
    )
  return [found[name] for name in sorted(found, key=rank)[:count]]


def numbers_in(text: str) -> list[float]:
  """Of a reply, in order.

  >>> numbers_in('{"score": [7, 8.5]}, as -1 says')
  [7.0, 8.5, -1.0]
  """
  return [float(x) for x in _NUMBER.findall(text)]


def check(
  config: Mapping[str, Any], name: str, judge: Judge
) -> dict[str, Any] | None:
  """Asks a judge its anchors; JSON of how far it has moved.

  None where the config names none.

  Args:
    config: plain dictionaries, with judges.NAME.anchors.
    name: of the judge in it.
    judge: that is asked; its budget counts these calls too.

  Raises:
    BadSettings: the file is not there, or damaged.
    JudgeError: of the judge.
  """
  found = anchors_of(config, name)
  if not found:
    return None
  drift: Drift = anchors.drift(
    judge, found, lambda anchor, text: numbers_in(text), config["concurrency"]
  )
  return dataclasses.asdict(drift) | {"anchors": len(found)}
