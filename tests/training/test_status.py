"""emma-train status: what a folder tells, and the code that scripts read."""

import dataclasses
import errno
import json
import os

import pytest

from emma_jax import provenance
from emma_jax.cli import train, train_status
from emma_jax.exits import Exit
from emma_jax.training import run_file, status
from tests import programs

TIMING = {"step_seconds": 2.0, "tokens_per_second": 50.0}
STAGES = [("a", 10, 100), ("b", 20, 300)]


@pytest.fixture
def record(tmp_path) -> run_file.RunFile:
  """Of this process, after step 4 of stage a."""
  made = run_file.RunFile(tmp_path)
  made.begin("mine", STAGES, 0, log_every=2)
  made.progress(4, "a", 4, TIMING, samples=(40, 3))
  return made


def test_a_process_is_told_of_once_however_often_it_begins(tmp_path):
  """A run that goes back begins again; another process is another line."""
  about = provenance.about({"a": 1}, step=0, devices="1 x cpu")
  for first in (0, 8):
    made = run_file.RunFile(tmp_path, about=about)
    made.begin("mine", STAGES, first, log_every=2)
    made.begin("mine", STAGES, first + 1, log_every=2)
  assert [one["step"] for one in provenance.read(tmp_path)] == [0, 8]
  run_file.RunFile(tmp_path / "b", active=False, about=about).begin(
    "mine", STAGES, 0, log_every=2
  )
  assert not (tmp_path / "b").exists()


def change(folder, **changes) -> None:
  content = run_file.read(folder) | changes
  (folder / run_file.NAME).write_text(json.dumps(content))


def log(folder, *entries) -> None:
  lines = [json.dumps(e) + "\n" for e in entries]
  (folder / "metrics.jsonl").write_text("".join(lines))


def test_a_run_that_does_well(record, tmp_path):
  """Time left: by the stage's own rate, of a later one by that of tokens."""
  (tmp_path / "checkpoints" / "4").mkdir(parents=True)
  (tmp_path / "checkpoints" / "6.tmp").mkdir()
  log(
    tmp_path,
    {"step": 2, "loss/x": 3.0, "loss_spikes": 1, "skipped_steps": 2},
    {"step": 4, "loss/x": 2.0, "loss/y": 1.0},
    {"step": 4, "validation/loss/x": 2.5},
  )
  found = status.read(tmp_path)
  assert (found.state, found.code, found.doing) == ("running", 0, "training")
  assert (found.stage, found.stage_step, found.step, found.total) == (
    "a",
    4,
    4,
    30,
  )
  assert [(s.done, s.steps, s.seconds_left) for s in found.stages] == [
    (4, 10, 12.0),
    (0, 20, 20 * 2.0 / 100 * 300),
  ]
  assert found.seconds_left == 12.0 + 120.0
  assert found.losses == {"loss/x": 2.0, "loss/y": 1.0}
  assert found.validation == {"validation/loss/x": 2.5}
  assert found.counts == {"spikes": 1, "skipped_steps": 2}
  assert (found.samples, found.skipped_samples) == (40, 3)
  assert found.checkpoint == 4 and found.disk_free > 0


def test_before_the_first_log_nothing_is_guessed(tmp_path):
  run_file.RunFile(tmp_path).begin("mine", STAGES, 0, log_every=2)
  found = status.read(tmp_path)
  assert found.seconds_left is None and found.code == 0
  assert found.stages[0].seconds_left is None and not found.losses


def test_a_process_that_is_gone_is_told_from_one_that_has_its_number(
  record, tmp_path
):
  change(tmp_path, process_started="1")  # another process has the id now
  found = status.read(tmp_path)
  assert (found.state, found.code) == ("dead", Exit.FAULT)
  change(tmp_path, host="elsewhere")  # nothing tells: the file's age counts
  assert status.read(tmp_path).state == "running"
  later = run_file.read(tmp_path)["updated"] + 3600
  assert status.read(tmp_path, later).state == "stuck"
  assert status.read(tmp_path, later).code == Exit.FAULT
  change(tmp_path, doing="evaluating a")
  assert status.read(tmp_path, later).state == "running"


@pytest.mark.parametrize(
  "state, code, shown",
  [
    (run_file.DONE, Exit.DONE, Exit.DONE),
    (run_file.STOPPED, Exit.STOPPED, Exit.STOPPED),
    (run_file.FAILED, Exit.NOT_FINITE, Exit.NOT_FINITE),
    (run_file.FAILED, Exit.STORAGE, Exit.STORAGE),
    (run_file.FAILED, Exit.MISTAKE, Exit.MISTAKE),
  ],
)
def test_a_run_that_has_ended_says_how(record, tmp_path, state, code, shown):
  record.end(state, code, "because")
  found = status.read(tmp_path)
  assert (found.state, found.code, found.reason) == (state, shown, "because")


@pytest.mark.parametrize("value", ["nan", "inf"])
def test_a_loss_that_is_not_finite_is_no_running_well(record, tmp_path, value):
  log(tmp_path, {"step": 4, "loss/x": value})
  found = status.read(tmp_path)
  assert found.code == Exit.NOT_FINITE and "loss/x" in found.reason


def test_a_log_that_is_cut_short_or_long_is_read_from_its_end(record, tmp_path):
  log(tmp_path, *({"step": i, "loss/x": float(i)} for i in range(20_000)))
  with (tmp_path / "metrics.jsonl").open("a") as file:
    file.write('{"step": 20001, "lo')
  assert status.read(tmp_path).losses == {"loss/x": 19_999.0}


def test_the_command_tells_people_and_scripts(record, tmp_path, capsys):
  assert train.main(["status", str(tmp_path)]) == 0
  said = capsys.readouterr().out
  for words in ("mine", "running (training)", "4 of 30", "2 s a step", "GiB"):
    assert words in said
  assert "2 min 12 s" in said and "3 of 40" in said
  assert train.main(["status", str(tmp_path), "--json"]) == 0
  line = json.loads(capsys.readouterr().out)
  assert line["seconds_left"] == 132.0
  assert set(line) == {f.name for f in dataclasses.fields(status.Status)}


@pytest.mark.parametrize("name", ["nowhere", ""])
def test_a_folder_without_a_run_is_a_mistake(name, tmp_path, capsys):
  assert train.main(["status", str(tmp_path / name)]) == Exit.MISTAKE
  said = capsys.readouterr().err
  assert "error: " in said and "--workdir" in said and "Traceback" not in said


@pytest.mark.parametrize("content", [{}, {"state": 3}, {"updated": "now"}])
def test_a_run_file_of_another_form_is_told_in_a_line(
  content, tmp_path, capsys
):
  (tmp_path / "run.json").write_text(json.dumps(content))
  assert train_status.main([str(tmp_path)]) == 2
  said = capsys.readouterr().err
  assert "run.json is not as this version writes it" in said
  assert said.count("\n") == 1


def test_watching_ends_with_the_run(record, tmp_path, monkeypatch, capsys):
  waits = []

  def sleep(seconds):
    waits.append(seconds)
    if len(waits) == 2:
      record.end(run_file.STOPPED, Exit.STOPPED, "")

  monkeypatch.setattr(train_status.time, "sleep", sleep)
  assert train.main(["status", str(tmp_path), "--watch", "3"]) == Exit.STOPPED
  assert waits == [3.0, 3.0] and capsys.readouterr().out.count("mine") == 3
  with pytest.raises(SystemExit) as end:
    train.main(["status", str(tmp_path), "--watch", "nan"])
  assert end.value.code == 2


def test_status_loads_no_jax(record, tmp_path):
  program = (
    "import sys; from emma_jax.cli import train\n"
    "assert train.main(['status', sys.argv[1]]) == 0"
  )
  change(tmp_path, process_started=None, pid=os.getpid())
  assert not programs.loaded(program, str(tmp_path)) & {
    "jax",
    "orbax",
    "flax",
    "tensorboardX",
  }


def test_a_run_that_goes_on_knows_its_earlier_rates(record, tmp_path):
  again = run_file.RunFile(tmp_path)
  again.begin("mine", STAGES, 4, log_every=2)
  assert status.read(tmp_path).stages[0].seconds_left == 12.0
  other = run_file.RunFile(tmp_path, active=False)
  other.begin("other", STAGES, 0, log_every=2)
  assert status.read(tmp_path).name == "mine"


def test_a_full_disk_ends_no_run_for_the_sake_of_a_look(record, monkeypatch):
  """While it trains and as it fails; that all is done has to be said."""

  def full(*_):
    raise OSError(errno.ENOSPC, "No space left on device")

  monkeypatch.setattr(run_file.files, "write_text", full)
  record.doing("scoring")
  record.progress(6, "a", 6, TIMING, samples=(50, 3))
  record.end(run_file.FAILED, 74, "full")
  with pytest.raises(OSError, match="No space left"):
    record.end(run_file.DONE, 0)
