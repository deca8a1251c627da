"""Only files that nobody else can have written are opened; the rest is room."""

import hashlib
import os
from pathlib import Path
import pickle

import pytest

from emma_jax import program_files

pytestmark = pytest.mark.smoke
KEY = "emma_jax.sampling.text.say\nall that decides"


@pytest.fixture
def folder(tmp_path) -> Path:
  assert program_files.make(tmp_path / "programs")
  return tmp_path / "programs"


@pytest.fixture
def is_opened(folder, monkeypatch):
  """Whether a pickle is, which does what it likes to whoever opens it."""
  opened: list[str] = []
  loads = lambda *_: opened.append("") or (KEY, None)
  monkeypatch.setattr(pickle, "loads", loads)

  def ask() -> bool:
    opened.clear()
    assert program_files.read(folder, KEY) is None  # nothing to run is in it
    return bool(opened)

  return ask


def put(path: Path) -> None:
  body = pickle.dumps((KEY, None))
  digest = hashlib.sha256(body).digest()
  path.write_bytes(program_files.MAGIC + digest + body)
  path.chmod(0o644)


def test_what_others_can_write_is_not_opened(folder, is_opened):
  path = program_files.path(folder, KEY)
  assert path.name.startswith("say-") and not is_opened()
  put(path)
  assert is_opened()
  for mode in (0o666, 0o664):
    path.chmod(mode)
    assert not is_opened()
  path.chmod(0o600)
  for mode in (0o777, 0o775):
    folder.chmod(mode)
    assert not is_opened()
  assert program_files.make(folder) and is_opened()
  assert folder.stat().st_mode & 0o777 == 0o755


def test_links_and_pipes_are_not_opened(folder, is_opened):
  path = program_files.path(folder, KEY)
  put(folder.parent / "downloaded")
  path.symlink_to(folder.parent / "downloaded")
  assert not is_opened()
  path.unlink()
  os.mkfifo(path)  # nobody writes into it
  assert not is_opened()


def test_another_users_are_not_opened(folder, is_opened, monkeypatch):
  path = program_files.path(folder, KEY)
  put(path)
  status = list(path.stat())
  status[4] = os.getuid() + 4242
  monkeypatch.setattr(os, "fstat", lambda _: os.stat_result(status))
  assert not is_opened()
  status[4] = 0  # root's, as in an image
  assert is_opened()


def test_a_folder_that_cannot_be_one_is_none(tmp_path):
  (tmp_path / "file").write_text("")
  assert not program_files.make(tmp_path / "file" / "x")
  program_files.write(tmp_path / "file" / "x", KEY, None)
  program_files.forget(tmp_path / "file" / "x", KEY)


def test_those_that_were_used_last_stay(folder, monkeypatch):
  (folder / "0").mkdir()  # whatever it is, it stays
  (folder / "1").symlink_to(folder / "nowhere")
  for i, name in enumerate("abc"):
    (folder / name).write_bytes(bytes(10))
    os.utime(folder / name, (i, i))
  monkeypatch.setattr(program_files, "_MOST_BYTES", 20)
  program_files.make_room(folder)
  assert sorted(p.name for p in folder.iterdir()) == ["0", "1", "b", "c"]
