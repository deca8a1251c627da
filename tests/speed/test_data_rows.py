"""The comparison of data pipelines compares equal work."""

import json

import pytest

from emma_jax.cli import speed
from emma_jax.speed import data_rows


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  folder = str(tmp_path_factory.mktemp("data") / "set")
  settings = data_rows.Settings(count=5, batch=5, height=128, width=160)
  size = data_rows.prepare(folder, settings)
  assert size > 100_000
  return folder


def test_a_pass_is_over_every_picture_once(folder):
  run, version = data_rows.work("pillow", folder)
  assert run() == 5 and "Pillow" in version
  assert len(set(data_rows.checksum("pillow", folder))) == 5


@pytest.mark.torch
def test_the_loaders_pixels_are_ours(folder):
  pytest.importorskip("torch")
  assert data_rows.checksum("loader", folder) == data_rows.checksum(
    "pillow", folder
  )


def test_the_command(tmp_path, capsys):
  out = tmp_path / "out.json"
  code = speed.main(
    [
      "data",
      "--count",
      "4",
      "--batch",
      "2",
      "--frame",
      "64x64",
      "--sides",
      "pillow",
      "--repetitions",
      "1",
      "--json",
      str(out),
    ]
  )
  said = capsys.readouterr().out
  assert code == 0 and "pictures/s" in said and "4 JPEG files" in said
  (result,) = json.loads(out.read_text())
  assert result["pictures_per_second"] > 0 and result["side"] == "pillow"


@pytest.mark.parametrize(
  "flags, words",
  [
    (["--count", "5", "--batch", "2"], "do not make batches of 2"),
    (["--frame", "64"], "HEIGHTxWIDTH"),
  ],
)
def test_mistakes(flags, words, capsys):
  assert speed.main(["data", *flags]) == 2
  assert words in capsys.readouterr().err
