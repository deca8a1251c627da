"""emma-data plan and hash, on small folders of records."""

import json

import pytest

from emma_jax import locks
from emma_jax.cli import common, data
from emma_jax.exits import Exit
from tests.data import recorded


@pytest.fixture(scope="module")
def config(tmp_path_factory) -> str:
  root = tmp_path_factory.mktemp("records")
  path = root / "planned.py"
  path.write_text(
    "from tests.data import recorded\n"
    f"SOURCES = {recorded.folders(root)!r}\n"
    "def get_config():\n  return recorded.config(SOURCES)\n"
  )
  return str(path)


def _run(*argv) -> int:
  return common.run(data.main, list(map(str, argv)))


def _hash(capsys, *argv) -> dict:
  assert _run("hash", *argv, "--json") == 0
  return json.loads(capsys.readouterr().out.splitlines()[-1])


def test_hosts_and_resumes_have_one_hash(config, capsys, tmp_path):
  stream = ("--config", config, "--steps", 6, "--plans", tmp_path)
  alone = _hash(capsys, *stream)
  assert (alone["stage"], alone["steps"]) == ("3_quality", 6)
  assert alone["samples"] > 30
  assert _hash(capsys, *stream, "--processes", 4) == alone
  assert (
    _hash(
      capsys,
      *stream,
      "--processes",
      2,
      "--resume",
      "1:1:0",
      "--resume",
      "4:4:0",
    )
    == alone
  )
  other = _hash(capsys, *stream, "--config.data.seed=1")
  assert other["sha256"] != alone["sha256"]


def test_batches_have_hashes_of_their_own(config, capsys, tmp_path):
  stream = ("--config", config, "--each", "--plans", tmp_path)
  assert _run("hash", *stream, "--steps", 4) == 0
  whole = capsys.readouterr().out.splitlines()
  assert _run("hash", *stream, "--start", 2, "--steps", 2) == 0
  part = capsys.readouterr().out.splitlines()
  assert part[:2] == whole[2:4] and part[2] != whole[4]
  assert len({line.split()[1] for line in whole[:4]}) == 4


def test_streams_that_are_not_planned_have_one_too(config, capsys):
  """Hosts pack the same parts; the world has no lengths."""
  changes = [
    f"--config.stages.3_quality.{k}={v}"
    for k, v in dict(
      samples_per_batch=8,
      mixture_unit="samples",
      mixture="((0.0, {'drawing': 1.0}),)",
    ).items()
  ]
  changes.append("--config.data.buckets=()")
  stream = ("--config", config, "--steps", 2, *changes)
  assert _hash(capsys, *stream) == _hash(capsys, *stream, "--processes", 2)


def test_plan_says_what_a_stage_will_see(config, capsys, tmp_path):
  report = tmp_path / "plan.json"
  assert _run("plan", "--config", config, "--steps", 8, "--json", report) == 0
  out = capsys.readouterr().out
  told = json.loads(report.read_text())
  assert f"Plan {told['plan'][:16]}: 8 batches, {told['samples']} sam" in out
  assert sum(told["buckets"].values()) == 8
  assert [p["first"] for p in told["phases"]] == [0, 4]
  assert told["phases"][0]["wanted"]["editing"] == 0
  assert "from batch 4: " in out and "wanted (samples)" in out
  assert "14 records, 0 cut, 0 left out" in out
  tight = "--config.stages.3_quality.und_tokens=24"
  assert _run("plan", "--config", config, "--samples", 30, tight) == 0
  assert "(too much of: und_tokens" in capsys.readouterr().out


def test_two_plans_at_once_in_one_folder_are_refused(config, capsys, tmp_path):
  """They would compute the same for hours; the folder is free again then."""
  plan = ("plan", "--config", config, "--steps", 2, "--plans", tmp_path / "p")
  other = locks.FolderLock(tmp_path / "p", "emma-data plan")
  assert _run(*plan) == Exit.IN_USE
  assert "in use by emma-data plan" in capsys.readouterr().err
  other.release()
  assert _run(*plan) == 0


@pytest.mark.parametrize(
  "argv, words",
  [
    (
      [
        "plan",
        "--config.stages.3_quality.samples_per_batch=4",
        "--config.data.buckets=()",
        "--config.stages.3_quality.mixture=((0.0, {'drawing': 1.0}),)",
        "--config.stages.3_quality.mixture_unit=samples",
      ],
      "samples_per_batch=4. Set it to 0",
    ),
    (
      ["plan", "--config.data.sources.drawing=world:drawing:train"],
      "has no lengths to plan by",
    ),
    (["plan", "--config.stages.3_quality.mixture_unit=words"], "'tokens'"),
    (["plan", "--stage", "x"], "the config has 3_quality"),
    (["hash", "--resume", "20:1:0"], "ascending, between"),
    (["hash", "--processes", "3"], "do not split over 3"),
  ],
)
def test_mistakes_get_a_line(argv, words, config, capsys):
  assert _run(*argv, "--config", config) == 2
  said = capsys.readouterr().err
  assert words in said and "Traceback" not in said
