"""Hugging Face folders: what is written is read, what is broken is refused."""

import json
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
import safetensors
import safetensors.numpy

from emma_jax.convert.files import Folder, FolderError, write_folder

BF16 = jnp.dtype("bfloat16")
RNG = np.random.default_rng(0)
TENSORS = {
  # An odd number of narrow values first: what follows must stay aligned.
  "a.narrow": RNG.normal(size=(3, 5)).astype(BF16),
  "a.matrix": RNG.normal(size=(6, 4)).astype(np.float32),
  "b.count": np.array(7, np.int64),
  "b.none": np.zeros((0, 3), np.float32),
  "c.flags": np.array([True, False, True]),
  "c.turned": RNG.normal(size=(4, 6)).astype(np.float16).T,
}


def write(path: Path, **options) -> Folder:
  write_folder(path, {"model_type": "x"}, TENSORS.items(), **options)
  return Folder.open(path)


@pytest.mark.parametrize("stem", ["model", "diffusion_pytorch_model"])
@pytest.mark.parametrize("limit", [5e9, 60], ids=["single", "shards"])
def test_what_is_written_is_read(tmp_path: Path, stem: str, limit: float):
  folder = write(tmp_path, stem=stem, max_shard_bytes=limit)
  assert folder.config == {"model_type": "x"}
  assert set(folder.names()) == set(TENSORS)
  for name, x in TENSORS.items():
    got = folder.read(name)
    assert folder.shape(name) == x.shape == got.shape
    assert folder.dtype(name) == x.dtype == got.dtype
    assert folder.tensors[name].dtype == x.dtype.name
    np.testing.assert_array_equal(got, x)
    start = folder.tensors[name].start
    assert start % x.itemsize == 0, f"{name} is not aligned"
  kinds = {p.name for p in tmp_path.iterdir()}
  if limit > 60:
    assert kinds == {"config.json", f"{stem}.safetensors"}
  else:
    assert f"{stem}.safetensors.index.json" in kinds
    assert f"{stem}-00001-of-{len(kinds) - 2:05d}.safetensors" in kinds
    index = json.loads(
      (tmp_path / f"{stem}.safetensors.index.json").read_text()
    )
    assert index["metadata"]["total_size"] == sum(
      x.nbytes for x in TENSORS.values()
    )


def test_the_safetensors_package_reads_what_we_write(tmp_path: Path):
  write(tmp_path)
  with safetensors.safe_open(
    tmp_path / "model.safetensors", framework="numpy"
  ) as file:
    assert file.metadata() == {"format": "pt"}
    for name, x in TENSORS.items():
      np.testing.assert_array_equal(file.get_tensor(name), x)


def test_we_read_what_the_safetensors_package_writes(tmp_path: Path):
  tensors = {
    k: np.ascontiguousarray(v).reshape(v.shape) for k, v in TENSORS.items()
  }
  safetensors.numpy.save_file(tensors, tmp_path / "any_name.safetensors")
  (tmp_path / "config.json").write_text("{}")
  folder = Folder.open(tmp_path)
  for name, x in TENSORS.items():
    np.testing.assert_array_equal(folder.read(name), x)


def test_a_tensor_is_mapped_alone(tmp_path: Path):
  """Neither the file nor the neighbours stay in memory with it."""
  got = write(tmp_path).read("a.matrix")
  base = got
  while isinstance(base.base, np.ndarray):
    base = base.base
  assert isinstance(base, np.memmap) and base.nbytes == got.nbytes
  with pytest.raises(ValueError, match="read-only"):
    got[0] = 0


def test_writing_takes_one_tensor_at_a_time(tmp_path: Path):
  """The generator is asked for a tensor when the one before is on disk."""
  written = []

  def tensors():
    for i in range(5):
      partial = tmp_path / "model.partial"
      written.append(partial.stat().st_size if i else 0)
      yield str(i), np.zeros((1 << 17,), np.float32)

  write_folder(tmp_path, {}, tensors())
  assert written == [i << 19 for i in range(5)]


def test_a_failed_write_leaves_nothing(tmp_path: Path):
  bad = [("a", np.zeros(9)), ("b", np.zeros(9)), ("a", np.zeros(9))]
  with pytest.raises(FolderError, match="a was to be written to .* twice"):
    write_folder(tmp_path, {}, bad, max_shard_bytes=80)
  with pytest.raises(FolderError, match="cannot hold complex128; cast"):
    write_folder(tmp_path, {}, [("a", np.zeros(2, complex))])
  assert not list(tmp_path.iterdir())


def test_a_folder_with_weights_is_not_written_over(tmp_path: Path):
  write(tmp_path)
  with pytest.raises(FolderError, match="holds model.safetensors already"):
    write(tmp_path)


def test_an_unknown_tensor_is_named(tmp_path: Path):
  with pytest.raises(FolderError, match="no tensor 'zz'; it has .*a.matrix"):
    write(tmp_path).read("zz")


def shard(path: Path, number: int) -> Path:
  return sorted(path.glob("model-*.safetensors"))[number]


def cut(path: Path):
  file = path / "model.safetensors"
  file.write_bytes(file.read_bytes()[:-3])


def pointer(path: Path):
  (path / "model.safetensors").write_text(
    "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"
  )


def longer(path: Path):
  with open(path / "model.safetensors", "ab") as file:
    file.write(b"\0" * 8)


def overlapping(path: Path):
  """One tensor's bytes are said to be another's too."""
  header = {
    name: {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
    for name in ("a", "b")
  }
  text = json.dumps(header).encode()
  (path / "model.safetensors").write_bytes(
    len(text).to_bytes(8, "little") + text + b"\0" * 8
  )


def no_object(path: Path):
  (path / "config.json").write_text("[]")


def float8(path: Path):
  file = path / "model.safetensors"
  file.write_bytes(file.read_bytes().replace(b'"BF16"', b'"F8E9"'))


def two_files(path: Path):
  file = path / "model.safetensors"
  file.rename(path / "one.safetensors")
  (path / "two.safetensors").write_bytes(b"")


def only_bin(path: Path):
  (path / "model.safetensors").rename(path / "pytorch_model.bin")


@pytest.mark.parametrize(
  "harm, words",
  [
    (lambda p: (p / "config.json").unlink(), "config.json is missing"),
    (lambda p: (p / "config.json").write_text("{"), "not readable JSON"),
    (lambda p: (p / "config.json").write_text("[]"), "no JSON object"),
    (lambda p: (p / "model.safetensors").unlink(), "holds no safetensors"),
    (only_bin, "but pytorch_model.bin, which only torch reads"),
    (cut, "bytes where there must be"),
    (pointer, "Git LFS pointer"),
    (longer, "bytes where there must be"),
    (overlapping, r"b, float32 \(2,\), cannot be bytes 0 to 8"),
    (no_object, "holds no JSON object"),
    (float8, "a.narrow is stored as F8E9"),
    (two_files, "cannot tell which weights are meant: one.safetensors"),
  ],
)
def test_a_broken_folder_is_refused(tmp_path: Path, harm, words: str):
  write(tmp_path)
  harm(tmp_path)
  with pytest.raises(FolderError, match=words) as error:
    Folder.open(tmp_path)
  assert str(tmp_path) in str(error.value)


def change_index(path: Path, change):
  index = path / "model.safetensors.index.json"
  content = json.loads(index.read_text())
  change(content["weight_map"])
  index.write_text(json.dumps(content))


@pytest.mark.parametrize(
  "harm, words",
  [
    (lambda p: shard(p, 1).unlink(), "names model-00002.*lacks"),
    (
      lambda p: change_index(p, lambda m: m.pop("c.flags")),
      "only the shard has c.flags",
    ),
    (
      lambda p: change_index(p, lambda m: m.update(zz=shard(p, 0).name)),
      "only the index has zz",
    ),
    (lambda p: change_index(p, lambda m: m.clear()), "no map of names"),
  ],
)
def test_broken_shards_are_refused(tmp_path: Path, harm, words: str):
  write(tmp_path, max_shard_bytes=60)
  harm(tmp_path)
  with pytest.raises(FolderError, match=words):
    Folder.open(tmp_path)


def test_a_path_that_is_no_folder_is_refused(tmp_path: Path):
  with pytest.raises(FolderError, match="is not a folder; give the one"):
    Folder.open(tmp_path / "nowhere")


def test_a_single_file_goes_before_shards(tmp_path: Path):
  """As in the libraries, which leave shards alone beside it."""
  write(tmp_path, max_shard_bytes=60)
  tensors = {"own": np.ones(3, np.float32)}
  safetensors.numpy.save_file(tensors, tmp_path / "model.safetensors")
  assert Folder.open(tmp_path).names() == ("own",)
