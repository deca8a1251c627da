"""What a run will take, seen on two items of the rehearsal's sets."""

import json

import pytest

from configs.benchmarks import smoke
from emma_jax.benchmarks import decide, estimate, folders, runs, stages
from emma_jax.benchmarks.selection import Shard
from tests.benchmarks import toy

# Without a judge, with one that many questions ask, with one for choices.
SETS = ("chartqa", "dpg", "ai2d")


@pytest.fixture
def run(tmp_path) -> tuple[runs.Run, dict]:
  """A run of some sets, and their data."""
  config = smoke.get_config()
  config.rows = 4
  made = runs.make_run(config.to_dict(), str(tmp_path / "out"), ",".join(SETS))
  runs.begin(made, {"weights": "w"})
  return made, runs.open_sources(made)


def test_two_items_stand_for_all(run):
  made, sources = run
  found = {x.name: x for x in estimate.dry_run(made, toy.model(), sources)}
  assert set(found) == set(SETS)
  for one in made.sets:
    got, items = found[one.name], len(sources[one.name])
    assert got.items == items
    assert got.predictions == items * one.repeats
    assert 0 < got.hours < 1
    assert 1 <= len(got.prompts) <= 2
  assert (found["chartqa"].calls, found["chartqa"].replies) == (0, [])
  assert found["dpg"].calls >= found["dpg"].predictions
  assert found["dpg"].replies and found["dpg"].usd == 0  # of a file
  lines = estimate.lines(list(found.values()))
  assert lines[len(SETS) + 1].startswith("in all")
  # Nothing of it is taken for the run's.
  assert not folders.SetFolder(made.out, "dpg").is_begun


def test_the_longest_prompt_is_one_of_the_two():
  items = [toy.item(n, question="x" * (n % 5)) for n in range(8)]
  settings = toy.settings(toy.benchmark())
  chosen = estimate.two_of(toy.source(items), settings)
  assert [chosen[i].id for i in range(len(chosen))] == ["n/0", "n/4"]
  same = estimate.two_of(toy.source(items[:1]), settings)
  assert len(same) == 1


def test_cost_counts_what_was_not_asked(run):
  made, sources = run
  stages.predict(
    made, toy.model(), sources, shard=Shard(), batch=4, stop=lambda: False
  )
  before = {x.name: x for x in estimate.cost(made, sources)}
  assert set(before) == {"dpg", "ai2d"}
  assert (before["dpg"].known, before["dpg"].missing) == (0, 36)
  stages.judge(made, sources, stop=lambda: False)
  after = {x.name: x for x in estimate.cost(made, sources)}
  assert after["dpg"].missing == 0
  assert after["dpg"].known == before["dpg"].missing
  # One reply is lost: it alone is left to ask.
  path = made.place(next(x for x in made.sets if x.name == "dpg")).judgements
  with open(path, encoding="utf-8") as file:
    kept = file.read().splitlines(keepends=True)
  with open(path, "w", encoding="utf-8") as file:
    file.write("".join(kept[1:]))
  (again,) = (x for x in estimate.cost(made, sources) if x.name == "dpg")
  assert again.missing == 1
  assert json.loads(kept[0])["key"] not in decide.kept(path)


def test_an_unknown_price_is_told_as_such():
  section = {"kind": "openai", "price": {"input": None, "output": None}}
  assert estimate.price_of(section).of(1000, 10, 0) is None
  assert estimate.price_of({"kind": "precomputed"}).of(1000, 10, 0) == 0
