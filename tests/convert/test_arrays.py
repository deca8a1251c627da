"""What should be a reference: arrays of numbers, or refused in a sentence."""

import io
from pathlib import Path
import tracemalloc
from typing import Any
import zipfile

import numpy as np
import pytest

from emma_jax.cli import convert as cli
from emma_jax.convert.arrays import Arrays, ArraysError
from tests.convert.hostile import FAMILIES

QWEN3 = FAMILIES["qwen3"]
HUGE = 1 << 61
MOST = 100 << 20  # bytes that a refusal may take


def test_arrays_are_read_when_they_are_asked_for(tmp_path: Path):
  x = np.arange(6, dtype=np.float32).reshape(2, 3)
  own = {"x": x, "words": np.array(["a"]), "empty": np.zeros((0, 2))}
  np.savez(tmp_path / "a.npz", **own)
  found = Arrays(tmp_path / "a.npz")
  assert set(found) == set(own) and len(found) == 3 and "y" not in found
  assert found.shapes == {name: array.shape for name, array in own.items()}
  np.testing.assert_array_equal(found["x"], x)
  assert found["empty"].shape == (0, 2)
  with pytest.raises(ArraysError, match="words is of <U1, not of numbers"):
    found["words"]
  (tmp_path / "a.npz").unlink()
  assert "x" in found  # which reads nothing


def npy(array: np.ndarray, **options: Any) -> bytes:
  out = io.BytesIO()
  np.lib.format.write_array(out, array, **options)
  return out.getvalue()


def zipped(members: dict[str, bytes]) -> bytes:
  out = io.BytesIO()
  with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as file:
    for name, content in members.items():
      file.writestr(name, content)
  return out.getvalue()


def claiming(shape: str) -> bytes:
  """An array of float32 that says it has another shape."""
  text = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}}}"
  text = text.ljust(117) + "\n"
  return b"\x93NUMPY\1\0" + len(text).to_bytes(2, "little") + text.encode()


IDS = npy(np.ones((1, 3), int))
WHOLE = zipped({"input_ids.npy": IDS, "logits.npy": npy(np.ones((1, 3, 40)))})
# What stands in the place of a reference -> words of the refusal.
ARRAYS: dict[str, tuple[bytes | None, str]] = {
  "nothing": (None, "does not exist; make it with numpy.savez"),
  "empty": (b"", "is no .npz file; make it with numpy.savez"),
  "a text": (b"hello, I am no archive\n", "is no .npz file; make it with"),
  "a pickle": (b"\x80\x04K\x01.", "is no .npz file"),
  "one array": (npy(np.ones(3)), "is no .npz file"),
  "cut": (WHOLE[: len(WHOLE) // 2], "is no .npz file"),
  "flipped": (
    WHOLE[:150] + bytes([WHOLE[150] ^ 255]) + WHOLE[151:],
    "no sound .npz file",
  ),
  "a text within": (zipped({"notes.txt": b"x"}), "'notes.txt' is no array"),
  "no array within": (zipped({"input_ids.npy": b"x"}), "no sound .npz file"),
  "objects": (
    zipped({"input_ids.npy": npy(np.array([[{}]]), allow_pickle=True)}),
    "input_ids is of object, not of numbers",
  ),
  "a huge shape": (
    zipped({"input_ids.npy": claiming(f"({HUGE},)")}),
    "input_ids has 128 bytes, which",
  ),
  "a negative shape": (
    zipped({"input_ids.npy": claiming("(-1,)")}),
    "no sound .npz file",
  ),
}


@pytest.mark.parametrize("content, words", ARRAYS.values(), ids=ARRAYS)
def test_what_is_no_reference_is_refused(tmp_path, capsys, content, words):
  """Never with advice to unpickle it."""
  folder, file = QWEN3.write(tmp_path / "f"), tmp_path / "r.npz"
  if content is not None:
    file.write_bytes(content)
  argv = ["check", "--family", "qwen3", "--folder", str(folder)]
  tracemalloc.start()
  try:
    code = cli.main([*argv, "--reference", str(file)])
    _, peak = tracemalloc.get_traced_memory()
  finally:
    tracemalloc.stop()
  error = capsys.readouterr().err
  assert code == 2 and words in error and "pickle" not in error, error
  assert peak < MOST and "Traceback" not in error
