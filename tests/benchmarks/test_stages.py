"""The judge stage over several sets."""

import pytest

from configs.benchmarks import defaults, judges
from emma_jax.benchmarks import asked, estimate, folders, records, runs, stages
from emma_jax.benchmarks.records import Prediction
from emma_jax.judge.base import OutOfBudget
from tests.benchmarks import toy
from tests.local_server import Script, chat, serve

pytestmark = pytest.mark.smoke

ITEMS = [toy.item(n) for n in range(4)]
JUDGED = toy.benchmark(score=toy.judged, judge="rating")


def predicted(out, url: str, **judge) -> tuple[runs.Run, dict]:
  """A run of two sets that one judge looks at, and their data."""
  config = defaults.base()
  config.judges.j = judges.openai(base_url=url, model="m", retries=0, **judge)
  sets = [toy.settings(JUDGED, name=n, judge="j") for n in ("a", "b")]
  run = runs.Run(config=config.to_dict(), sets=sets, out=str(out))
  folders.begin(str(out), {})
  for one in sets:
    place, made_with = run.place(one), records.digest({"weights": "w"})
    place.note(one, {"weights": "w"}, toy.source(ITEMS))
    with records.Appender(place.part(0)) as file:
      file.add(
        Prediction(
          id=item.id,
          repeat=0,
          key=asked.of(item, one).key(made_with, item.id, 0),
          settings=made_with,
          prompt="p",
          text=f"{one.name} {item.id}",
        )
        for item in ITEMS
      )
  return run, {one.name: toy.source(ITEMS) for one in sets}


def test_a_budget_is_of_all_sets_together(tmp_path):
  """Two sets do not cost twice what may be asked."""
  script = Script(chat("7"))
  with serve(script) as url:
    run, sources = predicted(tmp_path, url, max_calls=6)
    with pytest.raises(OutOfBudget, match="max_calls=6 are asked"):
      stages.judge(run, sources, stop=lambda: False)
  assert len(script.asked) == 6


def test_what_is_left_to_ask_costs_what_calls_cost_so_far(tmp_path):
  price = dict(input=1e4, output=1e5)  # USAGE is 100 in, 10 out
  with serve(Script(chat("7"))) as url:
    run, sources = predicted(tmp_path, url, price=price)
    first, second = estimate.cost(run, sources)
    assert (first.known, first.missing, first.usd) == (0, 4, None)
    one = runs.Run(config=run.config, sets=run.sets[:1], out=run.out)
    stages.judge(one, sources, stop=lambda: False)
  first, second = estimate.cost(run, sources)
  assert (first.known, first.missing, first.usd) == (4, 0, 0.0)
  assert (second.known, second.missing) == (0, 4)
