"""Many pictures, what they are made of, what a model knows: emma-sample."""

from pathlib import Path
import shlex
import shutil
import subprocess

import numpy as np
from PIL import Image
import pytest

from emma_jax.api import pictures
from emma_jax.cli.sample import main
from tests.cli.test_sample import saved
from tests.sampling import small

pytestmark = pytest.mark.usefixtures("own_cache")


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> str:
  path = tmp_path_factory.mktemp("weights") / "w.safetensors"
  return saved(path, small.random_params(small.config()["model"]))


@pytest.fixture
def picture(tmp_path: Path) -> str:
  path = tmp_path / "in.png"
  Image.fromarray(small.picture(0, 70, 100)).save(path)
  return str(path)


def test_seeds_grid_scale_and_settings(tmp_path, weights, capsys):
  draw = ["draw", weights, "--prompt", "red", "--steps", "1"]
  grid, alone = tmp_path / "grid.png", tmp_path / "alone.png"
  asked = ["--prompt", "blue", "--seeds", "3:5", "--grid", "--scale", "2"]
  assert main([*draw, *asked, "--out", str(grid)]) == 0
  assert main([*draw, "--seed", "4", "--out", str(alone)]) == 0
  with Image.open(grid) as image, Image.open(alone) as one:
    cells = np.asarray(image).astype(int)
    assert image.size == (2 * 128 + 2, 2 * 128 + 2)
    shown = np.asarray(one).astype(int).repeat(2, 0).repeat(2, 1)
  np.testing.assert_allclose(cells[:128, 130:], shown, atol=1)
  capsys.readouterr()
  assert main(["show-settings", str(grid), str(alone)]) == 0
  said = capsys.readouterr().out
  assert '"red", "red", "blue", "blue"' in said and "[3, 4, 3, 4]" in said
  (again,) = [x for x in said.splitlines() if x.startswith("  again: ")]
  words = shlex.split(again.removeprefix("  again: "))[1:]
  words[words.index("AGAIN.png")] = str(tmp_path / "again.png")
  assert main(words) == 0
  assert (tmp_path / "again.png").read_bytes() == alone.read_bytes()


def test_the_same_command_again_has_all_that_was_told(
  tmp_path, weights, capsys
):
  """A scale, what was changed of the config, words of any characters."""
  out, again = tmp_path / "a.png", tmp_path / "b.png"
  prompt = "-red it's\nbl\x1bue\r\n\\n"
  told = ["--scale", "2", "--config.sample.steps=2"]
  draw = ["draw", weights, f"--prompt={prompt}", *told]
  assert main([*draw, "--out", str(out)]) == 0
  (line,) = capsys.readouterr().out.splitlines()
  assert line.startswith(f"{out}  -red it's bl")
  assert main(["show-settings", str(out)]) == 0
  (said,) = [
    x for x in capsys.readouterr().out.splitlines() if x.startswith("  again:")
  ]
  program = said.removeprefix("  again: ").replace("emma-sample", "words", 1)
  echo = f"words() {{ printf '%s\\0' \"$@\"; }}; {program}"
  made = subprocess.run(["bash", "-c", echo], check=True, capture_output=True)
  words = made.stdout.decode().split("\0")[:-1]
  assert f"--prompt={prompt}" in words
  words[words.index("AGAIN.png")] = str(again)
  assert main(words) == 0
  assert again.read_bytes() == out.read_bytes()


def test_what_cannot_be_written_is_refused_before_it_is_computed(
  tmp_path, weights, picture, monkeypatch, capsys
):
  monkeypatch.setattr(
    "emma_jax.build.session.session", lambda *_, **__: pytest.fail("computed")
  )
  draw = ["draw", weights, "--prompt", "a"]
  edit = ["edit", weights, "--image", picture, "--instruction", "a"]
  out = ["--out", str(tmp_path / "o.png")]
  webp = ["--out", str(tmp_path / "o.webp")]
  for asked, words in (
    ([*draw, *out, "--scale", "1000"], "more than 64000000 pixels"),
    ([*edit, *out, "--scale", "1000"], "more than 64000000 pixels"),
    ([*draw, *out, "--grid", "--count", "9999", "--scale", "2"], "more than 6"),
    ([*edit, *out, "--grid", "--seeds", "0:9999"], "more than 64000000 pixels"),
    ([*draw, *webp, "--grid", "--count", "400"], "at most 16383 pixels"),
    (
      ["sheet", f"--checkpoint=a={weights.partition('=')[2]}", "--prompt", "a"]
      + ["--out", f"{picture}/o.png"],
      "is no folder",
    ),
  ):
    assert main(asked) == 2, asked
    assert words in capsys.readouterr().err, asked


def test_without_metadata_nothing_is_said(tmp_path, weights, picture, capsys):
  out = str(tmp_path / "o.png")
  edit = ["edit", weights, "--image", picture, "--instruction", "do"]
  assert main([*edit, "--steps", "1", "--out", out]) == 0
  assert main(["show-settings", out]) == 0
  said = capsys.readouterr().out
  assert "instruction    do" in said and f"--image {picture}" in said
  assert main([*edit, "--steps", "1", "--out", out, "--no_metadata"]) == 0
  (tmp_path / "text.png").write_text("no picture")
  foreign = str(tmp_path / "text.png")
  assert main(["show-settings", foreign, out]) == 2
  assert "no PNG of emma-sample" in capsys.readouterr().err


def test_a_sheet_has_a_column_for_each_of_a_runs_stages(
  tmp_path, weights, capsys
):
  source = weights.removeprefix("--checkpoint=")
  (tmp_path / "stages").mkdir()
  for name in ("0_alignment", "1_pretraining"):
    shutil.copy(source, tmp_path / "stages" / f"{name}.safetensors")
  out = tmp_path / "sheet.png"
  sheet = ["sheet", "--prompt", "red", "--prompt", "blue", "--steps", "1"]
  more = ["--workdir", str(tmp_path), "--checkpoint", f"shipped={source}"]
  assert main([*sheet, *more, "--out", str(out)]) == 0
  assert "2 prompts, 3 checkpoints" in capsys.readouterr().out
  columns = pictures.settings(out)["settings"]["columns"]
  assert [name for name, _ in columns] == [
    "0_alignment",
    "1_pretraining",
    "shipped",
  ]
  assert main([*sheet, "--workdir", str(tmp_path / "x"), "--out", "o.png"]) == 2
  assert "holds neither stages/" in capsys.readouterr().err


def test_prompts_outside_of_the_training_get_a_line(tmp_path, capsys):
  path = tmp_path / "w.safetensors"
  draw = ["draw", saved(path, small.random_params(small.config()["model"]))]
  draw += ["--steps", "1", "--out", str(tmp_path / "o.png"), "--prompt"]
  assert main([*draw, "a purple elephant"]) == 0
  assert "note:" not in capsys.readouterr().err  # nothing was measured
  measure = ["measure-prompts", f"--checkpoint={path}", "--samples", "200"]
  assert main(measure) == 0
  assert (tmp_path / "w.prompts.json").is_file()
  assert "drawing" in capsys.readouterr().out
  assert main([*draw, "a red star"]) == 0
  assert "note:" not in capsys.readouterr().err
  assert main([*draw, f"a purple elephant {'x' * 80}"]) == 0
  (note,) = [
    x for x in capsys.readouterr().err.splitlines() if x.startswith("note: ")
  ]
  assert "nats a token" in note and "the longest has" in note
  assert "x" * 60 not in note


def test_examples_are_the_trainings(weights, capsys):
  assert main(["examples", weights, "--count", "1"]) == 0
  said = capsys.readouterr().out
  for words in ("purple", "星形", "bottom left", "edit --image", "recolour"):
    assert words in said


@pytest.mark.parametrize(
  "arguments, words",
  [
    (["--seeds", "x"], "no seeds"),
    (["--seeds", "5:5"], "no seed is in it"),
    (["--seeds", "0:99999999"], "more than 10000"),
    (["--seeds", "0:2", "--count", "2"], "give one"),
    (["--seeds", "0:2"], "2 pictures; name a folder"),
    (["--seeds", "5:2"], "no seed is in it"),
    (["--seeds", "-3"], "seed=-3 must be a whole number"),
    (["--seeds", "2147483647:2147483649"], "seed=2147483648"),
    (["--scale", "0"], "--scale 0 must be at least 1"),
    (["x" * 50_000], "unrecognized arguments: xxx"),
    (["--dtype", "x" * 50_000], "invalid choice: 'xxx"),
  ],
)
def test_mistakes_of_many_pictures(weights, arguments, words, capsys):
  asked = ["draw", weights, "--prompt", "a", "--out", "o.png", *arguments]
  try:
    code = main(asked)
  except SystemExit as stop:
    code = stop.code
  said = capsys.readouterr().err
  assert code == 2 and words in said and len(said) < 2000


def test_a_prompt_of_many_times_the_longest_row_is_refused(
  tmp_path, monkeypatch, capsys
):
  """Of weights whose config names stages, before they are read."""

  def session(*_, **__):
    pytest.fail("The weights were read.")

  monkeypatch.setattr("emma_jax.build.session.session", session)
  out = ["--out", str(tmp_path / "o.png")]
  assert main(["draw", "--prompt", "a red star " * 1000, *out]) == 2
  said = capsys.readouterr().err
  assert "longest row of the training" in said and len(said) < 400
