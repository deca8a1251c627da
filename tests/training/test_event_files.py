"""TensorBoard's files: an error of the disk neither ends nor blocks a run."""

import errno
import pathlib

import pytest
from tensorboardX.proto import event_pb2

from emma_jax.training import event_files


def scalars(folder: pathlib.Path) -> list[tuple[int, float]]:
  """(step, value) of the one file, as TensorBoard reads it."""
  (path,) = folder.iterdir()
  data, out = path.read_bytes(), []
  while data:
    length = int.from_bytes(data[:8], "little")
    event = event_pb2.Event.FromString(data[12 : 12 + length])
    out += [(event.step, v.simple_value) for v in event.summary.value]
    data = data[16 + length :]
  return out


def write(folder: pathlib.Path, purge: int | None, steps, value: float):
  said = []
  events = event_files.writer(folder, purge, said.append)
  for step in steps:
    events.add_scalar("loss", value, step)
  events.close()
  return said


def test_a_run_that_goes_on_has_one_file_without_what_it_does_again(tmp_path):
  assert not write(tmp_path, None, (1, 2, 3, 4), 1.0)
  assert not write(tmp_path, 3, (3, 4, 5), 2.0)
  assert not write(tmp_path, 6, (6,), 3.0)
  assert scalars(tmp_path) == [
    *((1, 1.0), (2, 1.0)),
    *((3, 2.0), (4, 2.0), (5, 2.0)),
    (6, 3.0),
  ]


@pytest.mark.parametrize("killed", ["before", "after"])
def test_a_start_that_was_killed_loses_and_doubles_nothing(tmp_path, killed):
  """Before the new file has what was kept, or before the old one went."""
  write(tmp_path, None, (1, 2), 1.0)
  (old,) = tmp_path.iterdir()
  assert event_files._keep(tmp_path / "kept", [old], 3)
  if killed == "after":
    (tmp_path / "z.tfevents").write_bytes(old.read_bytes())
  old.write_bytes(old.read_bytes()[:-3])  # cut, too
  assert not write(tmp_path, 3, (3,), 2.0)
  assert scalars(tmp_path) == [(1, 1.0), (2, 1.0), (3, 2.0)]


def test_what_cannot_be_written_is_told_once_and_blocks_nothing(tmp_path):
  said = []
  events = event_files.writer(tmp_path / "tensorboard", None, said.append)
  inner = events.file_writer.event_writer._ev_writer._inner

  def full(*_):
    raise OSError(errno.ENOSPC, "No space left on device")

  written = inner.write_event
  inner.write_event = full
  # More than its queue holds: a thread that has died would be waited for.
  for step in range(40):
    events.add_scalar("loss", 1.0, step)
  while not said:
    pass
  inner.write_event = written
  events.add_scalar("loss", 1.0, 41)
  events.close()
  (line,) = said
  assert "TensorBoard" in line and "no space is left" in line
  (file,) = (tmp_path / "tensorboard").iterdir()
  assert file.stat().st_size > 0
