"""The working folder: claimed by one run, and by process 0 for all."""

import pytest

from emma_jax import locks
from emma_jax.cli import common
from emma_jax.exits import Exit
from emma_jax.training import folder


def test_a_folder_that_another_holds_is_not_claimed(tmp_path, capsys):
  other = locks.FolderLock(tmp_path, "emma-train")

  def main(argv):
    with folder.claimed(tmp_path):
      raise AssertionError("claimed")

  assert common.run(main, []) == Exit.IN_USE
  assert str(tmp_path) in capsys.readouterr().err
  other.release()
  with folder.claimed(tmp_path) as check:
    check()
    assert locks.holder(tmp_path) is not None


def test_of_several_processes_the_others_end_with_the_firsts_code(monkeypatch):
  """What process 0 raises is told by its code."""
  from jax.experimental import multihost_utils

  monkeypatch.setattr(folder.jax, "process_count", lambda: 2)
  monkeypatch.setattr(folder.jax, "process_index", lambda: 1)
  for told, code in ((Exit.IN_USE, Exit.IN_USE), (Exit.STORAGE, Exit.STORAGE)):
    monkeypatch.setattr(
      multihost_utils, "broadcast_one_to_all", lambda x, told=told: told
    )
    with pytest.raises(folder.FirstFailed) as error:
      folder.first(lambda: pytest.fail("acts"))
    assert error.value.exit_code == code
  monkeypatch.setattr(multihost_utils, "broadcast_one_to_all", lambda x: x)
  folder.first(lambda: pytest.fail("acts"))
