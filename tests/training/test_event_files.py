"""TensorBoard's files: an error of the disk neither ends nor blocks a run."""

import errno

from emma_jax.training import event_files


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
