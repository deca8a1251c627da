"""Calls of a run, asked anew: how far a judge's numbers have moved."""

import json

import pytest

from configs.benchmarks import judges, smoke
from emma_jax.benchmarks import calibration, runs, stages
from emma_jax.benchmarks.data.folder import located
from emma_jax.benchmarks.judges import judge_of
from emma_jax.benchmarks.settings import BadSettings
from emma_jax.judge import anchors
from tests.benchmarks.smoke.test_smoke import predict

pytestmark = pytest.mark.smoke


@pytest.fixture
def judged(tmp_path) -> tuple[runs.Run, dict]:
  """The rehearsal's edits, made up and judged."""
  config = smoke.get_config().to_dict()
  made = runs.make_run(config, str(tmp_path / "out"), "gedit")
  sources = runs.open_sources(made)
  runs.begin(made, {"weights": "w"})
  predict(made, sources)
  stages.judge(made, sources, stop=lambda: False)
  return made, sources


def check(path, replies) -> dict | None:
  """By a judge whose replies are in a file."""
  section = dict(judges.precomputed(str(replies)), anchors=str(path))
  config = {"judges": {"again": section}, "concurrency": 2}
  return calibration.check(config, "again", judge_of(config, "again", ""))


def test_a_judge_that_says_the_same_has_not_moved(judged, tmp_path):
  made, sources = judged
  kept = calibration.collect(made, sources, "replies", count=5)
  assert len(kept) == 5
  assert kept == calibration.collect(made, sources, "replies", count=5)
  path = tmp_path / "anchors.jsonl"
  anchors.save(str(path), kept)
  found = check(path, located(smoke.FILES + "/judge.jsonl"))
  assert (found["n"], found["anchors"]) == (5, 5)
  assert found["mean_abs_diff"] == 0 and not found["failed"]


def test_a_judge_that_moved_is_seen(judged, tmp_path):
  made, sources = judged
  path, replies = tmp_path / "anchors.jsonl", tmp_path / "replies.jsonl"
  kept = calibration.collect(made, sources, "replies", count=3)
  anchors.save(str(path), kept)
  lines = []
  for anchor in kept[:2]:
    numbers = [x + 1 for x in calibration.numbers_in(anchor.reply)]
    text = " ".join(map(str, numbers))
    lines.append({"call": anchor.call.id, "text": text})
  replies.write_text("".join(json.dumps(x) + "\n" for x in lines))
  found = check(path, replies)
  assert found["n"] == 2 and found["mean_abs_diff"] == pytest.approx(1)
  assert list(found["failed"]) == [kept[2].call.id]  # nobody replied


def test_a_judge_that_was_not_asked_has_no_anchors(judged):
  made, sources = judged
  with pytest.raises(BadSettings, match="'detector' has given no number"):
    calibration.collect(
      runs.Run(
        config=made.config | {"judges": {"detector": {"kind": "none"}}},
        sets=made.sets,
        out=made.out,
      ),
      sources,
      "detector",
      count=5,
    )


def test_a_file_that_is_not_there_is_named(tmp_path):
  with pytest.raises(BadSettings, match=r"judges\.again\.anchors: .*lost"):
    check(tmp_path / "lost.jsonl", located(smoke.FILES + "/judge.jsonl"))
