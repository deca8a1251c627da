"""The numbers of results.json as lines of text."""

from collections.abc import Iterator, Mapping
from typing import Any

from emma_jax.benchmarks import folders


def show(path: str) -> int:
  """Prints the table of a results.json; 1 where a set has no score.

  Raises:
    BadRun: there is no such file.
  """
  missing = "run `emma-benchmark aggregate` first"
  content = folders.read_json(path, missing, "sets")
  for line in lines(content):
    print(line)
  return int(
    any(headline(one)["score"] is None for one in content["sets"])
    or not content["sets"]
  )


def headline(one: Mapping[str, Any]) -> Mapping[str, Any]:
  """The number of a set under the implementation that the config names."""
  return next(n for n in one["numbers"] if n["impl"] == one["impl"])


def lines(content: Mapping[str, Any]) -> Iterator[str]:
  """A line per set and implementation, then what needs a word."""
  yield (
    f"{'set':<16}{'split':<12}{'implementation':<20}{'score':>8}  "
    f"{'95%':<16}{'n':>7}{'failed':>8}"
  )
  notes, rehearsed = [], []
  for one in content["sets"]:
    for number in one["numbers"]:
      first = number["impl"] == one["impl"]
      name = f"{one['name'] if first else '':<16}"
      split = f"{one['split'] if first else '':<12}"
      failed = sum(number["failures"].values())
      yield (
        f"{name}{split}{number['impl']:<20}{score(number):>8}  "
        f"{interval(number):<16}{number['n_expected']:>7,}{failed:>8,}"
      )
    top = headline(one)
    if top["reason"]:
      notes.append(f"{one['name']}: no score: {top['reason']}")
    if one["data"].get("rehearsal"):
      rehearsed.append(one["name"])
    elif top["partial"]:
      notes.append(f"{one['name']}: partial: {one['data']['items']:,} items")
    if top["unread"]:
      notes.append(
        f"{one['name']}: {top['unread']:,} answers name no option, and no "
        "judge was asked: wrong"
      )
    if stale := one["predictions"]["stale"]:
      notes.append(
        f"{one['name']}: {stale:,} predictions in the folder are of other "
        "weights, settings, prompts or pictures, and not used"
      )
    weights = {content["run"].get("weights"), one["sampling"].get("weights")}
    if len(weights - {None}) > 1:
      notes.append(
        f"{one['name']}: predicted with other weights than run.json names, by "
        "an earlier command"
      )
    if one["predictions"]["truncated"]:
      notes.append(
        f"{one['name']}: {one['predictions']['truncated']:,} answers were cut "
        "at max_tokens"
      )
  yield from notes
  if rehearsed:
    yield (
      f"A rehearsal: the items of {', '.join(rehearsed)} are made up, and "
      "their scores mean nothing."
    )


def score(number: Mapping[str, Any]) -> str:
  """Of a number, as printed.

  >>> score({"score": 62.55, "unit": "%"}), score({"score": None, "unit": ""})
  ('62.5', '-')
  """
  value = number["score"]
  if value is None:
    return "-"
  return f"{value:.1f}" if number["unit"] == "%" else f"{value:.3g}"


def interval(number: Mapping[str, Any]) -> str:
  """Its interval, as printed."""
  if number["ci95"] is None:
    return ""
  low, high = (
    score({"score": x, "unit": number["unit"]}) for x in number["ci95"]
  )
  return f"[{low}, {high}]"
