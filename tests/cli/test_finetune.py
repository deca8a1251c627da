"""emma-train finetune: what it prepares, and what it refuses."""

import json
from pathlib import Path
import shlex
import shutil

import numpy as np
import pytest

from emma_jax.build import config_file, prompts
from emma_jax.cli import finetune, sample, train
from emma_jax.data.records.source import RecordsSource
from emma_jax.data.text.tokenizer import TinyTokenizer
from emma_jax.exits import Exit
from emma_jax.structs import TASKS
from tests.data import made


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> Path:
  """Ten pictures with captions beside them."""
  folder = tmp_path_factory.mktemp("pictures")
  rng = np.random.default_rng(0)
  for i in range(10):
    pixels = rng.integers(0, 256, (40, 40, 3), np.uint8)
    (folder / f"{i}.png").write_bytes(made.encoded(pixels))
    (folder / f"{i}.txt").write_text(f"picture {i} of something else")
  return folder


def _run(*arguments: object) -> int:
  return train.main(["finetune", *map(str, arguments)])


@pytest.mark.smoke
def test_a_folder_of_pictures_is_prepared_in_one_command(
  pictures, tmp_path, capsys
):
  """The config is the run's, whole: what emma-train reads without the rest."""
  out = tmp_path / "out"
  flags = ("--out", out, "--prepare", "--steps", 7, "--held-out", "0.3")
  assert _run("reference", pictures, *flags) == 0
  shown = capsys.readouterr()
  assert f"emma-train --config {out / 'config.py'}" in shown.out
  assert "7 of drawing; held out: 3 of drawing" in shown.err
  config = config_file.load(str(out / "config.py"))
  section = config.stages.finetune
  assert section.steps == 7 and section.warmup_steps <= 7
  specs = (config.data.sources.drawing, config.evaluate.sources.drawing)
  sources = [RecordsSource(spec.partition(":")[2]) for spec in specs]
  assert [len(source) for source in sources] == [7, 3]
  prompts = {s[i].prompt for s in sources for i in range(len(s))}
  assert prompts == {f"picture {i} of something else" for i in range(10)}
  before = (out / "data" / "drawing" / "train" / "dataset.json").stat()
  assert _run("reference", pictures, *flags) == 0  # nothing is made again
  assert (out / "data" / "drawing" / "train" / "dataset.json").stat() == before
  capsys.readouterr()
  assert _run("reference", pictures, *flags, "--log_format=json") == 0
  shown = capsys.readouterr()
  lines = [json.loads(s)["text"] for s in (shown.out + shown.err).splitlines()]
  assert any(line.startswith("Train by: emma-train") for line in lines)
  # Another cut of the data would mix what was held out with what was not.
  assert _run("reference", pictures, "--out", out, "--prepare") == Exit.MISTAKE
  assert "was made of other data, or cut otherwise" in capsys.readouterr().err


def test_nothing_of_another_command_is_trained_on(pictures, tmp_path, capsys):
  """What a command has read before it failed was once taken for the next's."""
  out = tmp_path / "out"
  flags = ("--out", out, "--prepare")
  wrong = _run("reference", pictures, *flags, "--tasks", "editing")
  assert wrong == Exit.MISTAKE
  few = tmp_path / "few"
  few.mkdir()
  for i in (3, 4, 5):
    for end in ("png", "txt"):
      shutil.copy(pictures / f"{i}.{end}", few)
  assert _run("reference", few, *flags, "--tasks", "editing, drawing") == 0
  prompts = set()
  for part in ("train", "held_out"):
    source = RecordsSource(str(out / "data" / "drawing" / part))
    prompts |= {source[i].prompt for i in range(len(source))}
  assert prompts == {f"picture {i} of something else" for i in (3, 4, 5)}
  # The same tasks in another order are the same data.
  assert _run("reference", few, *flags, "--tasks", "drawing,editing") == 0
  capsys.readouterr()
  (tmp_path / "own" / "data" / "drawing").mkdir(parents=True)
  assert _run("reference", few, "--out", tmp_path / "own") == Exit.MISTAKE
  assert "holds drawing, which no fine-tuning made" in capsys.readouterr().err


def test_a_refused_continuation_leaves_the_runs_config(pictures, tmp_path):
  """OUT/config.py is what the checkpoints there were trained by."""
  out = tmp_path / "out"
  given = ["reference", str(pictures), "--out", str(out), "--steps"]
  refuses = lambda argv: Exit.MISTAKE
  assert finetune.main([*given, "7"], refuses) == Exit.MISTAKE  # a new run
  path = out / "config.py"
  first = path.read_text()
  assert finetune.main([*given, "9"], refuses) == Exit.MISTAKE
  assert path.read_text() == first
  stopped = lambda argv: Exit.STOPPED
  assert finetune.main([*given, "9"], stopped) == Exit.STOPPED
  assert config_file.load(str(path)).stages.finetune.steps == 9


def test_at_most_so_many_steps(pictures, tmp_path, capsys):
  stopped = lambda argv: Exit.STOPPED
  for most, steps in ((5, 5), (10**6, None)):
    out = tmp_path / str(most)
    given = ["reference", str(pictures), "--out", str(out)]
    asked = [*given, "--max_steps", str(most)]
    assert finetune.main(asked, stopped) == Exit.STOPPED
    found = config_file.load(str(out / "config.py")).stages.finetune.steps
    assert steps is None or found == steps
    assert 100 <= found <= 10_000 or steps
  assert _run("reference", pictures, "--out", out, "--max_steps", 0) == 2
  assert "--max_steps 0 must be at least 1" in capsys.readouterr().err


def test_the_base_models_prompts_stay_known(tmp_path):
  files = {
    "drawing": made.jsonl(
      tmp_path / "d.jsonl",
      *[{"image": "a.png", "caption": f"my cat number {i}"} for i in range(9)],
    )
  }
  (tmp_path / "a.png").write_bytes(made.noise())
  sources = {k: f"jsonl:{path}" for k, path in files.items()}
  config = {"data": {"sources": sources, "tokenizer": "tiny"}}
  prompts.continue_from("reference", str(tmp_path), config, 100)
  known = prompts.statistics_of(str(tmp_path))
  assert known is not None
  tokenizer = TinyTokenizer()
  note = lambda text: known.note("m", "drawing", text, tokenizer)
  assert note("a red star") is None and note("my cat number 3") is None
  assert note("zzz qqq xxx")
  # Of weights of which nothing is known nothing is said.
  other = tmp_path / "other"
  other.mkdir()
  prompts.continue_from(str(other), str(other), config, 100)
  assert prompts.statistics_of(str(other)) is None


@pytest.mark.parametrize("task", TASKS)
def test_what_can_be_done_next_is_a_command(task, capsys):
  _, command = finetune._NEXT[task]
  argv = shlex.split(command.format("/no/weights"))
  assert sample.main(argv) == Exit.MISTAKE
  shown = capsys.readouterr().err
  assert "No weights at /no/weights" in shown or "FILE" in shown


def test_out_is_neither_in_the_data_nor_the_model(pictures, tmp_path, capsys):
  given = ("reference", pictures, "--out", pictures / "run", "--prepare")
  assert _run(*given) == Exit.MISTAKE
  assert "name a folder beside it" in capsys.readouterr().err
  assert not (pictures / "run").exists()
  assert _run(tmp_path, pictures, "--out", tmp_path) == Exit.MISTAKE
  assert "is the MODEL itself" in capsys.readouterr().err


@pytest.mark.parametrize(
  "arguments, code, told",
  [
    (("lost", "{pictures}"), Exit.MISTAKE, "No weights at lost"),
    (("reference", "/no/such"), Exit.MISTAKE, "No such file: /no/such"),
    (
      ("reference", "{pictures}", "--tasks", "draw"),
      Exit.MISTAKE,
      "--tasks draw: choose some of",
    ),
    (
      ("reference", "{pictures}", "--tasks", "editing"),
      Exit.MISTAKE,
      "records of ['drawing']; wanted are ['editing']",
    ),
    (("reference", "{pictures}", "--steps", "0"), Exit.MISTAKE, "at least 1"),
    (("world_autoencoder", "{pictures}"), Exit.MISTAKE, "is an autoencoder"),
    (
      ("reference", "{pictures}", "--config.stages.finetune.stepz=3"),
      Exit.MISTAKE,
      "Did you mean stages.finetune.steps",
    ),
    (
      ("reference", "{pictures}", "--decoder"),
      Exit.MISTAKE,
      "--prepare and --decoder do not go together",
    ),
  ],
)
def test_mistakes_are_told_before_anything_is_trained(
  pictures, tmp_path, capsys, arguments, code, told
):
  given = [argument.format(pictures=pictures) for argument in arguments]
  assert _run(*given, "--out", tmp_path / "out", "--prepare") == code
  assert told in capsys.readouterr().err
