"""A whole model is written and restored by the command, with numbers beside."""

import dataclasses

import jax
import pytest

from emma_jax.build.sections import plain
from emma_jax.cli import speed
from emma_jax.speed import restore
from tests import tiny


@pytest.mark.parametrize("form", restore.FORMS)
@pytest.mark.smoke
def test_what_is_written_is_restored(form, tmp_path):
  case = restore.Case(
    form=form, stored="bfloat16", dtype="bfloat16", devices=1, folder=tmp_path
  )
  size = restore.write(case, plain(tiny.config()))
  count = sum(x.size for x in jax.tree.leaves(tiny.shapes()))
  assert size == 2 * count
  found = restore._restored(case)
  assert found["a_device"] == found["weights"] >= size / 2**20
  line = restore.line(dataclasses.asdict(case) | found)
  assert line.startswith(f"{form} of bfloat16 as bfloat16 on 1 ")


@pytest.mark.parametrize(
  "name, free, words",
  [
    ("_available", lambda: 10**6, "this machine's memory has 0.0 GiB free"),
    ("_DISK", 1e12, "free; take fewer layers"),
  ],
)
def test_too_little_room_is_told_before_anything_is_written(
  name, free, words, tmp_path, monkeypatch, capsys
):
  monkeypatch.setattr(restore, name, free)
  arguments = ["restore", "--config", "tiny", "--folder", str(tmp_path)]
  assert speed.main(arguments) == 2
  assert words in capsys.readouterr().err
  assert not list(tmp_path.iterdir())


def test_numbers_of_devices_that_cannot_be(capsys):
  assert speed.main(["restore", "--devices", "0"]) == 2
  assert "--devices 0 must be positive" in capsys.readouterr().err
