"""A killed and resumed run leaves the same metrics as an uninterrupted one."""

import json

import jax.numpy as jnp
import pytest

from emma_jax.structs import Mean
from emma_jax.training import metrics

pytestmark = pytest.mark.smoke


def log(path, first: int, last: int, sums: dict | None = None):
  """Steps first..last of a run that logs every fourth; returns its sums."""
  accumulator = metrics.Accumulator()
  accumulator.restore(sums or {})
  with metrics.MetricWriter(path) as writer:
    writer.truncate_after(first - 1)
    for step in range(first, last + 1):
      task = "drawing" if step % 3 else "editing"
      accumulator.add(
        {f"loss/{task}": Mean(jnp.float32(0.1 * step), jnp.float32(step % 2))}
      )
      if step % 4 == 0:
        values = {"stage": "pretrain", "stage_step": step} | accumulator.flush()
        writer.write(step, values, {"step_seconds": 1 / last})
  return accumulator.state()


def without_timing(path) -> list[dict]:
  return [
    {k: v for k, v in entry.items() if k != "timing"}
    for entry in metrics.read_metrics(path)
  ]


def test_resumed_equals_uninterrupted(tmp_path):
  log(tmp_path / "whole", 1, 20)
  sums = log(tmp_path / "killed", 1, 10)  # a checkpoint between two lines
  log(tmp_path / "killed", 11, 17, json.loads(json.dumps(sums)))  # lost
  with (tmp_path / "killed" / "metrics.jsonl").open("a") as file:
    file.write('{"step": 20, "sta')  # what a kill leaves
  steps = [e["step"] for e in without_timing(tmp_path / "killed")]
  assert steps == [4, 8, 12, 16]
  log(tmp_path / "killed", 11, 20, sums)
  whole = without_timing(tmp_path / "whole")
  assert [e["step"] for e in whole] == [4, 8, 12, 16, 20]
  assert without_timing(tmp_path / "killed") == whole


def test_truncate_drops_later_and_broken_lines(tmp_path):
  log(tmp_path, 1, 12)
  path = tmp_path / "metrics.jsonl"
  path.write_text(path.read_text() + "not json\n" + '{"step": 1')
  writer = metrics.MetricWriter(tmp_path)
  writer.truncate_after(8)
  left = path.read_text().splitlines()
  assert [json.loads(line)["step"] for line in left] == [4, 8]
  writer.truncate_after(0)
  assert path.read_text() == ""


def test_inactive_writes_nothing(tmp_path):
  with metrics.MetricWriter(tmp_path / "x", active=False) as writer:
    writer.truncate_after(0)
    writer.write(1, {"loss": 1.0})
  assert not (tmp_path / "x").exists()


def test_values_that_are_no_number_stay_readable(tmp_path):
  with metrics.MetricWriter(tmp_path) as writer:
    writer.write(1, {"loss": float("nan"), "norm": float("inf"), "n": 3})
  assert metrics.read_metrics(tmp_path) == [
    {"step": 1, "loss": "nan", "norm": "inf", "n": 3}
  ]


def test_accumulator_weighs_by_count_and_leaves_out_what_was_absent():
  a = metrics.Accumulator()
  a.add({"loss": Mean(6.0, 3.0), "none": Mean(0.0, 0.0)})
  a.add({"loss": Mean(1.0, 1.0)})
  assert a.flush() == {"loss": 1.75}
  assert a.flush() == {}


def test_timer():
  now = [0.0]
  timer = metrics.Timer(clock=lambda: now[0])
  for _ in range(2):
    with timer.waiting():
      now[0] += 1.0
    now[0] += 2.0
    timer.step()
    timer.count(tokens=30)
  with timer.excluded():
    now[0] += 100.0
  assert timer.so_far() == (6.0, 2)
  assert timer.flush() == pytest.approx(
    {
      "step_seconds": 3.0,
      "data_seconds": 1.0,
      "data_share": 1 / 3,
      "tokens_per_second": 10.0,
    }
  )
  timer.step()
  assert timer.so_far() == (6.0, 3)


class Full:
  """A file of which a full disk takes a part."""

  def __init__(self, file, room):
    self.file, self.room = file, room

  def write(self, data):
    if not self.room:
      raise OSError(28, "No space left on device")
    taken = self.file.write(data[: self.room])
    self.room -= taken
    return taken

  def close(self):
    self.file.close()


def test_lines_that_a_full_disk_refuses_wait_and_are_whole_later(
  tmp_path, capsys
):
  with metrics.MetricWriter(tmp_path) as writer:
    writer.write(1, {"loss": 1.0})
    writer._file = Full(writer._file, 5)
    writer.write(2, {"loss": 2.0})  # cut in the middle
    writer.write(3, {"loss": 3.0})
    with pytest.raises(OSError, match="No space"):
      writer.flush()
    writer._file.room = 1000
    writer.flush()
  assert "no space is left" in capsys.readouterr().err
  assert [x["loss"] for x in metrics.read_metrics(tmp_path)] == [1.0, 2.0, 3.0]


def test_what_is_refused_to_the_end_is_an_error(tmp_path):
  with (
    pytest.raises(OSError, match="No space"),
    metrics.MetricWriter(tmp_path) as writer,
  ):
    writer.write(1, {"loss": 1.0})
    writer._file = Full(writer._file, 0)
    writer.write(2, {"loss": 2.0})
