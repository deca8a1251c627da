import dataclasses
import os
import random

import pytest

from emma_jax.benchmarks import folders, predict, records
from emma_jax.benchmarks.items import Picture
from emma_jax.benchmarks.model import Model
from emma_jax.benchmarks.predict import Tally
from emma_jax.benchmarks.records import Stopped
from emma_jax.benchmarks.selection import Shard
from tests.benchmarks import toy

ITEMS = [toy.item(n) for n in range(10)]
ALL = Shard()


def run(
  out,
  task="ask",
  items=ITEMS,
  *,
  shard=ALL,
  batch=4,
  stop=lambda: False,
  **changes,
) -> Tally:
  benchmark = toy.benchmark(task)
  return predict.predict(
    toy.model(),
    toy.source(items),
    toy.settings(benchmark, **changes),
    str(out),
    shard=shard,
    batch=batch,
    stop=stop,
    tell=lambda tally, total: None,
  )


def lines(out) -> set[str]:
  place = folders.SetFolder(str(out), "toy")
  return {records.dump(line) for _, line in place.lines()}


def stop_after(count: int):
  """A `stop` that lets so many questions pass."""
  left = [count]

  def stop() -> bool:
    left[0] -= 1
    return left[0] < 0

  return stop


@pytest.mark.parametrize("task", ["ask", "draw", "edit"])
def test_a_prediction_depends_on_its_item_alone(tmp_path, task):
  """Whatever the batch, the order, the number of processes, and wherever it
  was stopped: the same lines, which hold digests of the pictures."""
  run(tmp_path / "plain", task)
  expected = lines(tmp_path / "plain")
  repeats = 1 if task == "ask" else 2
  assert len(expected) == 10 * repeats
  rng = random.Random(0)
  for batch, count in ((1, 1), (3, 2), (8, 3)):
    out = tmp_path / f"{batch}-{count}"
    for index in range(count):
      shard = Shard(index, count)
      shuffled = rng.sample(ITEMS, len(ITEMS))
      with pytest.raises(Stopped):
        run(out, task, shuffled, shard=shard, batch=batch, stop=stop_after(2))
      before = lines(out)
      tally = run(out, task, ITEMS, shard=shard, batch=batch)
      assert before <= lines(out)
      mine = sum(shard.has(item.id) for item in ITEMS) * repeats
      assert tally.made + tally.found == mine
    assert lines(out) == expected


def test_what_is_there_is_not_made_again(tmp_path):
  run(tmp_path)
  again = run(tmp_path, batch=1)
  assert (again.made, again.found, again.stale) == (0, 10, 0)


@pytest.mark.parametrize(
  "change", [dict(max_tokens=5), dict(seed=1), dict(temperature=0.5)]
)
def test_predictions_of_other_settings_are_kept_and_not_used(tmp_path, change):
  run(tmp_path)
  before = lines(tmp_path)
  tally = run(tmp_path, **change)
  assert (tally.made, tally.stale) == (10, 10)
  assert "part-0.jsonl, line 1" in tally.stale_where
  assert before < lines(tmp_path)
  place = folders.SetFolder(str(tmp_path), "toy")
  now = toy.settings(toy.benchmark(), **change)
  found, stale = place.predictions(now)
  assert (len(found), stale) == (10, 10)
  with pytest.raises(records.BadRun, match="made with other settings"):
    place.predictions(toy.settings(toy.benchmark()))


def test_predictions_of_another_prompt_are_not_used(tmp_path):
  run(tmp_path)
  asked = toy.item(3, question="another question")
  tally = run(tmp_path, items=[*ITEMS[:3], asked, *ITEMS[4:]])
  assert (tally.made, tally.found, tally.stale) == (1, 9, 1)
  other = Picture("row 5", lambda: toy.png(99))
  shown = toy.item(5, pictures=(other,))
  tally = run(tmp_path, items=[*ITEMS[:5], shown, *ITEMS[6:]])
  assert (tally.made, tally.found, tally.stale) == (1, 9, 1)


def test_other_weights_are_other_predictions(tmp_path):
  run(tmp_path)
  model = toy.model()
  other = dataclasses.replace(model, weights="others")
  settings = toy.settings(toy.benchmark())
  assert other.decides(settings) != model.decides(settings)
  rows = dataclasses.replace(model.session.runner, batch=8)
  more = dataclasses.replace(model.session, runner=rows)
  more = dataclasses.replace(model, session=more)
  assert more.decides(settings) != model.decides(settings)


def test_what_a_checkpoint_says_is_what_saying_it_is(tmp_path):
  """Steps left open and the same steps given share predictions."""
  run(tmp_path, "draw", steps=None)
  same = toy.model().session.defaults["steps"]
  tally = run(tmp_path, "draw", steps=same)
  assert (tally.made, tally.found) == (0, 20)


def test_a_picture_that_cannot_be_read_fails_its_item_alone(tmp_path):
  page = Picture("row 3", lambda: b"<html>404</html>")
  noise = Picture("row 4", lambda: b"no picture at all")
  items = [
    *ITEMS[:3],
    toy.item(3, pictures=(page,)),
    toy.item(4, pictures=(noise,)),
  ]
  tally = run(tmp_path, items=items)
  assert (tally.made, tally.failed) == (5, 2)
  place = folders.SetFolder(str(tmp_path), "toy")
  found = {line.id: line for _, line in place.lines()}
  assert "HTML" in found["n/3"].error
  assert [found[f"n/{n}"].status for n in (3, 4)] == ["unreadable"] * 2
  assert {found[f"n/{n}"].status for n in range(3)} <= {
    *("ok", "empty", "truncated")
  }


def test_a_question_that_the_model_cannot_take_is_counted(tmp_path):
  marks = toy.item(0, question="<image> and <image>")
  tally = run(tmp_path, items=[marks, *ITEMS[1:3]])
  assert (tally.made, tally.failed) == (3, 1)


def test_a_stop_string_ends_an_answer(tmp_path):
  run(tmp_path / "a")
  (text,) = {
    line.text
    for _, line in folders.SetFolder(str(tmp_path / "a"), "toy").lines()
    if line.id == "n/1"
  }
  end = text[1:2]
  benchmark = toy.benchmark(stop=(end,))
  predict.predict(
    toy.model(),
    toy.source([ITEMS[1]]),
    toy.settings(benchmark),
    str(tmp_path / "b"),
    shard=ALL,
    batch=1,
    stop=lambda: False,
    tell=lambda tally, total: None,
  )
  (line,) = (
    x for _, x in folders.SetFolder(str(tmp_path / "b"), "toy").lines()
  )
  assert line.text == text.partition(end)[0]
  assert line.status == ("ok" if line.text.strip() else "empty")


def test_every_repeat_and_every_item_has_noise_of_its_own(tmp_path):
  """Of one prompt, too: four pictures of an item are four pictures."""
  items = [toy.item(n, question="red circle") for n in range(3)]
  run(tmp_path, "draw", items, repeats=4)
  place = folders.SetFolder(str(tmp_path), "toy")
  sums = [line.sha256 for _, line in place.lines()]
  assert len(sums) == len(set(sums)) == 12


def test_a_limit_takes_whole_groups(tmp_path):
  tally = run(tmp_path, limit=5)
  assert tally.made == 4  # pairs of questions about one picture
  bigger = run(tmp_path, limit=6)
  assert (bigger.made, bigger.found) == (2, 4)


def test_a_picture_is_there_before_its_line(tmp_path):
  run(tmp_path, "draw")
  place = folders.SetFolder(str(tmp_path), "toy")
  for _, line in place.lines():
    assert os.path.exists(os.path.join(place.path, line.picture))


def test_padding_is_counted(tmp_path):
  tally = run(tmp_path)
  assert 0 < tally.tokens <= tally.slots
  assert tally.slots % toy.model().session.runner.batch == 0


def test_a_session_that_does_not_fill_is_refused():
  session = toy.model().session
  runner = dataclasses.replace(session.runner, fill=False)
  with pytest.raises(ValueError, match="loaded with fill"):
    Model.of(dataclasses.replace(session, runner=runner))
