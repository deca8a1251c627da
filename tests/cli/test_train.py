"""emma-train: help, and one-line messages for mistakes."""

import doctest
import json
import os
import subprocess
import sys

import pytest

from emma_jax import locks
from emma_jax.cli import common, train
from emma_jax.exits import Exit
from emma_jax.models import emma
from emma_jax.training import run_file
from tests import programs, tiny

CONFIG = """
from configs import tiny as tiny_config
from tests import tiny

def get_config():
  c = tiny.config()
  c.stages = tiny_config.tiny_stages(c.model)
  c.train.evaluate = False
  return c
"""


@pytest.fixture
def call(tmp_path, own_cache, capfd):
  """(exit code, stderr) of the command with some overrides."""
  (tmp_path / "micro.py").write_text(CONFIG)

  def run(*overrides: str, config: str = "") -> tuple[int, str]:
    code = train.main(
      [
        "--config",
        config or str(tmp_path / "micro.py"),
        "--workdir",
        str(tmp_path / "run"),
        *overrides,
      ]
    )
    return code, capfd.readouterr().err

  return run


def test_help_tells_the_command(capsys):
  with pytest.raises(SystemExit) as end:
    train.main(["--help"])
  said = capsys.readouterr().out
  assert end.value.code == 0
  for words in (
    "--workdir",
    "--config FILE",
    "continues",
    "--config.data.seed=3",
  ):
    assert words in said


def test_a_missing_argument_is_named(capsys):
  with pytest.raises(SystemExit) as end:
    train.main(["--config", "tiny"])
  assert end.value.code == 2 and "--workdir" in capsys.readouterr().err


# Arguments, and what is said of them (tests/hostile asks them, too).
MISTAKES = [
  (["--config.data.sed=1"], "Did you mean data.seed?"),
  (["--config.train.log_every=often"], "expected a whole number"),
  (["--config.stages.3_quality.objective=gan"], "choose emma, router"),
  (["--config.stages.3_quality.next_stage_weights=mean"], "choose ema or raw"),
  (["--config.stages.3_quality.schedule=sine"], "sine"),
  (["--config.stages.3_quality.route=both"], "both"),
  (["--config.stages.0_alignment.policy=(('.*','melt'),)"], "melt"),
  (
    ["--config.stages.0_alignment.policy=(('nothing','train'),)"],
    "no rule covers",
  ),
  (["--config.stages.0_alignment.load=(('.*','keep'),)"], 'nothing to "keep"'),
  (
    ["--config.stages.0_alignment.load=(('.*','weights:/no/such'),)"],
    "/no/such",
  ),
  (["--config.data.sources.drawing=jsonl:/no/such.jsonl"], "/no/such.jsonl"),
  (["--config.data.sources.drawing=moon:drawing:train"], "moon"),
  (["--config.stages.3_quality.und_tokens=8"], "und_tokens"),
  (["--config.data.height=33"], "33"),
  (["--config.model.llm.num_shallow=9"], "num_shallow"),
  (["--config.train.keep=1"], "keep=1 is below 2"),
  (["--config.train.save_every=0"], "save_every=0 is below 1"),
  (["--config.stages.4b_router.objective=autoencoder"], "does not fit"),
  (
    ["--config.stages.3_quality.lr_multipliers=(('llm/.*',1.0),)"],
    "no rule covers",
  ),
  (
    ["--config.stages.4b_router.policy=(('vison/.*','train'),)"],
    "config.stages.4b_router: policy",
  ),
]


@pytest.mark.parametrize("overrides, words", MISTAKES)
def test_mistakes_are_one_message_and_code_2(call, overrides, words):
  code, said = call(*overrides)
  assert code == 2, said
  assert "error: " in said and words in said and "Traceback" not in said


@pytest.mark.parametrize(
  "flags, words",
  [
    (["--profile", "9:3"], "--profile 9:3"),
    (["--process_id", "1"], "coordinator and num_processes missing"),
    (
      ["--distributed", "off", "--config.data.packing_groups=7"],
      "data.packing_groups=7",
    ),
  ],
)
def test_mistakes_of_a_cluster_are_one_message_too(call, flags, words):
  code, said = call(*flags)
  assert code == 2 and words in said and "Traceback" not in said


def test_a_folder_that_is_none_is_refused(call, tmp_path):
  (tmp_path / "run").write_text("")
  code, said = call()
  assert code == 2 and "run is a file" in said and "Traceback" not in said


def test_a_bucket_has_to_be_mounted(call, tmp_path):
  code, said = call("--workdir", "gs://bucket/run")
  assert code == 2 and "mounted" in said


def test_a_folder_in_use_is_left_at_once(call, tmp_path):
  """Before anything is read, or written but the lock's name."""
  other = locks.FolderLock(tmp_path / "run", "emma-train")
  code, said = call()
  assert code == Exit.IN_USE and "in use by emma-train" in said
  assert [p.name for p in (tmp_path / "run").iterdir()] == [locks.NAME]
  other.release()


def test_checkpoints_that_are_gone_are_refused(call, tmp_path):
  """A disk that is not mounted; the log stays as it is."""
  (tmp_path / "run" / "checkpoints").mkdir(parents=True)
  (tmp_path / "run" / "saved.json").write_text('{"step": 12}')
  (tmp_path / "run" / "metrics.jsonl").write_text('{"step": 12}\n')
  code, said = call()
  assert code == Exit.MISSING and "to begin anew" in said
  assert (tmp_path / "run" / "metrics.jsonl").read_text() == '{"step": 12}\n'


def test_an_unknown_config_is_named(call):
  code, said = call(config="tinny")
  assert code == 2 and "Did you mean tiny?" in said


@pytest.fixture
def finished(call, tmp_path, monkeypatch, capfd):
  """A run of the micro config that has told that it is done; calls it again."""
  config = ["--config", str(tmp_path / "micro.py")]
  config += ["--workdir", str(tmp_path / "run")]
  folder = tmp_path / "run"
  (folder / "checkpoints" / "12").mkdir(parents=True)
  for name in ("metrics.jsonl", "report.html", "scores.json"):
    (folder / name).write_text("{}")
  record = run_file.RunFile(folder)
  record.begin("mine", [("a", 12, 1)], 12, log_every=1)
  digest = train._read(config).digest
  more = dict(config=digest, results=run_file.results(folder))
  record.end(run_file.DONE, Exit.DONE, **more)
  monkeypatch.setattr(train, "_claim", lambda asked: 99)

  def again(*overrides: str) -> tuple[int, str]:
    return train.main([*config, *overrides]), capfd.readouterr().out

  return folder, again


def test_a_finished_run_says_where_its_report_is_and_ends(finished):
  folder, again = finished
  code, said = again()
  assert code == 0 and "Done: all 12 steps" in said
  assert str(folder / "report.html") in said


@pytest.mark.parametrize(
  "spoil",
  [
    lambda folder: (folder / "report.html").unlink(),
    lambda folder: (folder / "scores.json").write_text(""),
    lambda folder: (folder / "metrics.jsonl").unlink(),
    lambda folder: (folder / "checkpoints" / "12").rmdir(),
    lambda folder: (folder / "run.json").write_text("{"),
    lambda folder: run_file.RunFile(folder).begin("a", [], 12, 1),
  ],
)
def test_a_run_that_lacks_anything_goes_the_whole_way(finished, spoil):
  folder, again = finished
  spoil(folder)
  assert again() == (99, "")


def test_another_config_is_not_done(finished):
  """What it changes is for the trainer to judge."""
  _, again = finished
  assert again("--config.evaluate.samples=7")[0] == 99
  assert again("--config.data.seed=7")[0] == 99


def test_a_short_run_has_its_flags(call, tmp_path):
  config = ["--config", "tiny", "--workdir", str(tmp_path)]
  short = ["--max_steps", "20", "--stages", "1_pretraining,0_alignment"]
  asked = train._read([*config, *short])
  steps = {name: s.steps for name, s in asked.config.stages.items()}
  assert steps == {"0_alignment": 20, "1_pretraining": 20}
  assert asked.config.stages["1_pretraining"].warmup_steps == 3
  assert asked.digest != train._read(config).digest
  code, said = call("--max_steps", "0")
  assert code == 2 and "at least 1 step" in said
  code, said = call("--stages", "3_qality")
  assert code == 2 and "Did you mean 3_quality?" in said


def test_lines_for_programs_are_json_from_the_first_on(call):
  for flag in (["--log_format=json"], ["--log_format", "json"]):
    code, said = call("--config.data.sed=1", *flag)
    (line,) = map(json.loads, said.splitlines())
    assert code == 2 and line["level"] == "error"
    assert "Did you mean data.seed?" in line["text"]


@pytest.mark.slow
def test_the_smoke_config_does_each_part_of_a_run_once(tmp_path):
  """All six stages: looks, samples, scores, checkpoints, report, TensorBoard;
  and nothing but our own lines."""
  folder = tmp_path / "run"
  command = ["--config", "smoke", "--workdir", str(folder)]
  command += ["--log_format", "json", "--max_steps", "2"]
  # Programs that run twice: compiled in a third of the time.
  flags = {"XLA_FLAGS": "--xla_backend_optimization_level=0"}
  said = [
    subprocess.run(
      [sys.executable, "-m", "emma_jax.cli.train", *command],
      env=os.environ | flags,
      capture_output=True,
      text=True,
    )
    for _ in range(2)
  ]
  assert [done.returncode for done in said] == [0, 0], said
  events = [json.loads(line) for line in said[0].stderr.splitlines()]
  text = "\n".join(e.get("text", "") for e in events)
  stages = list(train._read(command).config.stages)
  for stage in stages:
    assert f"Stage {stage}: 2 steps; trains" in text
    assert f"After {stage}: understanding" in text
  steps = [e["stage"] for e in events if e["event"] == "step"]
  assert list(dict.fromkeys(steps)) == stages
  assert "saved step 12 -> " in text and "WARNING:absl" not in text
  for name in ("report.html", "stages.png", "scores.json", "metrics.jsonl"):
    assert (folder / name).stat().st_size, name
  (path,) = (folder / "tensorboard").iterdir()
  written = path.read_bytes()
  for words in (b"scores/drawing", b"PNG", b"config", b"loss/total"):
    assert words in written
  assert "nothing is left to do" in said[1].stdout


def test_done_is_said_in_json_too(tmp_path, capsys):
  run = ["--config", "tiny", "--workdir", str(tmp_path)]
  (tmp_path / "checkpoints" / "3").mkdir(parents=True)
  record = run_file.RunFile(tmp_path)
  record.begin("mine", [("a", 3, 1)], 3, log_every=1)
  digest = train._read(run).digest
  (tmp_path / "report.html").write_text("the page")
  record.end(run_file.DONE, Exit.DONE, config=digest, results=["report.html"])
  assert train.main([*run, "--log_format", "json"]) == Exit.DONE
  shown = capsys.readouterr()
  first, second = map(json.loads, shown.out.splitlines())
  assert "nothing is left to do" in first["text"] and not shown.err
  assert second["text"].endswith("report.html")


def test_done_is_said_without_jax(tmp_path):
  """And so are mistakes: nobody waits for an accelerator to hear of them."""
  run = ["--config", "tiny", "--workdir", str(tmp_path)]
  (tmp_path / "checkpoints" / "3").mkdir(parents=True)
  record = run_file.RunFile(tmp_path)
  record.begin("mine", [("a", 3, 1)], 3, log_every=1)
  digest = train._read(run).digest
  record.end(run_file.DONE, Exit.DONE, config=digest, results=[])
  program = (
    "import sys; from emma_jax.cli import train\n"
    "assert train.main(sys.argv[1:]) == 0"
  )
  assert not programs.loaded(program, *run) & {"jax", "orbax", "flax"}


def test_an_error_is_told_to_who_looks_at_the_run(call, tmp_path, monkeypatch):
  def fail(asked):
    asked.record = run_file.RunFile(tmp_path)
    asked.record.begin("mine", [("a", 3, 1)], 0, log_every=1)
    raise FileNotFoundError("the disk is gone")

  monkeypatch.setattr(train, "_claim", fail)
  code, said = call()
  assert code == Exit.MISTAKE and "the disk is gone" in said
  content = run_file.read(tmp_path)
  assert (content["state"], content["exit"]) == ("failed", code)
  assert content["error"] == "FileNotFoundError: the disk is gone"


def test_docstrings():
  assert doctest.testmod(common).failed == 0
  assert emma.PIXELS_PER_TOKEN == 32 and tiny.HEIGHT % 32 == 0
