"""Programs that outlive their process give the same bits, or are made anew."""

import concurrent.futures
import dataclasses
import hashlib
import os
from pathlib import Path
import pickle
import subprocess
import sys

import jax
from jax.experimental.compilation_cache import compilation_cache
import jax.numpy as jnp
import numpy as np
import pytest

from emma_jax import program_files, programs

X = np.linspace(-2.0, 3.0, 7, dtype=np.float32)
traced: list[str] = []


def plain():
  """As another process has it: JAX knows traces by the function's identity."""

  def scaled(x_C: jax.Array, scale: jax.Array, power: int) -> dict:
    traced.append("scaled")
    return {"out": jnp.sin(x_C * scale) ** power, "key": jax.random.key(3)}

  return scaled


def fresh():
  return programs.kept("power")(plain())


@pytest.fixture
def folder(tmp_path):
  traced.clear()
  with programs.using(tmp_path):
    yield tmp_path


def bits(made: dict) -> bytes:
  key = np.asarray(jax.random.key_data(made["key"]))
  return np.asarray(made["out"]).tobytes() + key.tobytes()


@pytest.mark.smoke
def test_the_second_process_traces_nothing_and_gives_the_same_bits(folder):
  wanted = bits(jax.jit(plain(), static_argnames="power")(X, 2.0, power=3))
  traced.clear()
  assert bits(fresh()(X, 2.0, power=3)) == wanted and traced == ["scaled"]
  traced.clear()
  again = fresh()
  assert bits(again(X, 2.0, power=3)) == bits(again(X, 2.0, 3)) == wanted
  assert not traced and len(list(folder.iterdir())) == 1


def test_other_shapes_types_statics_and_options_are_other_programs(folder):
  function = fresh()
  for call in (
    lambda: function(X, 2.0, power=3),
    lambda: function(X[:5], 2.0, power=3),
    lambda: function(X, 2, power=3),
    lambda: function(X, np.float32(2), power=3),
    lambda: function(X, 2.0, power=2),
  ):
    call()
  with jax.default_matmul_precision("highest"):
    function(X, 2.0, power=3)
  assert len(traced) == len(list(folder.iterdir())) == 6


def damaged(content: bytes) -> dict[str, bytes]:
  start = len(b"emma_jax program 1\n") + 32
  _, program = pickle.loads(content[start:])
  foreign = pickle.dumps(("another key", program))
  whole = program_files.MAGIC + hashlib.sha256(foreign).digest()
  return {
    "a bit": content[:-9] + bytes([content[-9] ^ 1]) + content[-8:],
    "cut": content[: len(content) // 2],
    "empty": b"",
    "another file": b"GIF89a" + content,
    "of another key": whole + foreign,
    "nothing": program_files.MAGIC + hashlib.sha256(b"x").digest() + b"x",
  }


def test_what_is_damaged_or_foreign_is_compiled_again(folder, monkeypatch):
  wanted = bits(fresh()(X, 2.0, power=3))
  (path,) = folder.iterdir()
  content = path.read_bytes()
  for name, wrong in damaged(content).items():
    path.write_bytes(wrong)
    traced.clear()
    assert bits(fresh()(X, 2.0, power=3)) == wanted, name
    assert traced == ["scaled"], name
    assert path.read_bytes() != wrong, name


def test_a_folder_that_can_only_be_read_serves(folder, monkeypatch):
  """An image's cache, made by root when the image was built."""
  wanted = bits(fresh()(X, 2.0, power=3))

  def refuse(*_, **__):
    raise OSError(30, "Read-only file system")

  monkeypatch.setattr(os, "utime", refuse)
  monkeypatch.setattr(program_files.files, "atomic_write", refuse)
  traced.clear()
  assert bits(fresh()(X, 2.0, power=3)) == wanted and not traced
  assert bits(fresh()(X, 2.0, power=2)) and traced == ["scaled"]


def test_code_that_is_not_the_packages_text_is_not_kept(folder, monkeypatch):
  """Edited since the import, reloaded, or written in a notebook."""
  monkeypatch.setattr(programs, "_IMPORTED", 0.0)
  fresh()(X, 2.0, power=3)
  assert not list(folder.iterdir())
  monkeypatch.undo()
  own = programs.kept("what")(lambda x, what: x + 1)
  with programs.using(folder):
    own(X, what=Written(3))
    assert not list(folder.iterdir())
    own(X, what=3)
    assert len(list(folder.iterdir())) == 1


@dataclasses.dataclass(frozen=True)
class Written:
  size: int


def test_a_file_of_flags_is_its_content(tmp_path, monkeypatch):
  monkeypatch.setenv("XLA_FLAGS", str(tmp_path / "flags"))
  for text in ("--xla_a=1", "--xla_a=2"):
    (tmp_path / "flags").write_text(text)
    assert programs._flags("XLA_FLAGS") == text
  monkeypatch.setenv("XLA_FLAGS", "--xla_b=1")
  assert programs._flags("XLA_FLAGS") == "--xla_b=1"


def test_on_another_default_device_it_is_jits(folder):
  wanted = bits(fresh()(X, 2.0, power=3))
  (path,) = folder.iterdir()
  path.unlink()
  with jax.default_device("cpu"):  # as where the first is no CPU
    assert bits(fresh()(X, 2.0, power=3)) == wanted
  assert not list(folder.iterdir())


def test_threads_compile_once_and_leave_jaxs_cache_on(folder, own_options):
  jax.config.update("jax_enable_compilation_cache", True)
  function = fresh()
  with concurrent.futures.ThreadPoolExecutor(4) as pool:
    made = list(pool.map(lambda _: bits(function(X, 2.0, power=3)), range(8)))
  assert len(set(made)) == 1 and traced == ["scaled"]
  assert jax.config.jax_enable_compilation_cache


def test_an_executable_that_loads_and_does_not_run_is_compiled_again(
  folder, monkeypatch
):
  wanted = bits(fresh()(X, 2.0, power=3))

  def broken(*args, **kwargs):
    raise RuntimeError("NOT_FOUND: Function add_fusion not found")

  monkeypatch.setattr(program_files, "read", lambda *_: broken)
  traced.clear()
  assert bits(fresh()(X, 2.0, power=3)) == wanted and traced == ["scaled"]


def test_what_jaxs_cache_holds_is_kept_as_well(folder, own_options):
  """XLA would serialise what it has read itself without some of its code."""
  jax.config.update("jax_enable_compilation_cache", True)
  jax.config.update("jax_compilation_cache_dir", str(folder / "xla"))
  jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
  compilation_cache.reset_cache()
  with programs.using(folder / "programs"):
    (folder / "programs").mkdir()
    wanted = bits(jax.jit(plain(), static_argnames="power")(X, 2.0, power=3))
    assert list((folder / "xla").iterdir())
    assert bits(fresh()(X, 2.0, power=3)) == wanted
    traced.clear()
    assert bits(fresh()(X, 2.0, power=3)) == wanted and not traced
  assert jax.config.jax_enable_compilation_cache


def many_kernels(x_CC: jax.Array) -> jax.Array:
  """Of more functions than one, each of which a file has to have."""
  for _ in range(30):
    x_CC = jnp.tanh(x_CC @ x_CC.T @ x_CC) + jnp.sum(x_CC)
  return x_CC


def test_what_jit_has_from_its_cache_is_compiled_for_the_file(
  folder, own_options
):
  """Its executable is in memory, without the code that a file needs."""
  jax.config.update("jax_enable_compilation_cache", True)
  jax.config.update("jax_compilation_cache_dir", str(folder / "xla"))
  jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
  compilation_cache.reset_cache()
  x_CC = np.eye(64, dtype=np.float32)
  first = programs.kept()(many_kernels)
  wanted = np.asarray(first._jitted(x_CC))
  jax.clear_caches()
  assert np.array_equal(first._jitted(x_CC), wanted)  # from the disk
  with programs.using(folder / "programs"):
    assert program_files.make(folder / "programs")
    assert np.array_equal(first(x_CC), wanted)
    (file,) = (folder / "programs").iterdir()
    before = file.stat().st_ino
    assert np.array_equal(programs.kept()(many_kernels)(x_CC), wanted)
    assert file.stat().st_ino == before  # it ran, and was not made anew


def test_a_folder_that_cannot_be_written_ends_nothing(tmp_path):
  (tmp_path / "file").write_text("")
  traced.clear()
  with programs.using(tmp_path / "file" / "x"):
    fresh()(X, 2.0, power=3)
  assert traced == ["scaled"]


def test_within_a_trace_it_is_a_part_of_that_program(folder):
  function = fresh()
  whole = jax.jit(lambda x: function(x, 2.0, power=3)["out"])
  np.testing.assert_allclose(
    whole(X), function(X, 2.0, power=3)["out"], atol=1e-6
  )
  assert len(list(folder.iterdir())) == 1


def test_what_lies_on_a_mesh_is_jits(folder):
  """Whole weights of a training of one device are its mesh's."""
  mesh = jax.make_mesh((1,), ("data",), devices=jax.devices()[:1])
  place = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
  function = fresh()
  wanted = bits(function(X, 2.0, power=3))
  assert bits(function(jax.device_put(X, place), 2.0, power=3)) == wanted
  assert bits(function(jax.device_put(X), 2.0, power=3)) == wanted
  assert len(list(folder.iterdir())) == 1


def test_what_has_an_address_for_a_name_is_not_kept(folder):
  class Nameless:
    pass

  kept = programs.kept("what")(lambda x, what: x + 1)
  kept(X, what=Nameless())
  assert not list(folder.iterdir())


@pytest.fixture
def own_options():
  names = (
    "jax_compilation_cache_dir",
    "jax_enable_compilation_cache",
    "jax_persistent_cache_min_compile_time_secs",
  )
  before = {name: getattr(jax.config, name) for name in names}
  jax.config.update("jax_compilation_cache_dir", None)
  with programs.using(None):
    yield
  for name, value in before.items():
    jax.config.update(name, value)
  compilation_cache.reset_cache()


def test_one_folder_for_both_and_jaxs_options_hold(
  tmp_path, monkeypatch, own_options, capsys
):
  monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
  monkeypatch.setenv("EMMA_CACHE", str(tmp_path / "cache"))
  programs.use()
  wanted = str(tmp_path / "cache" / "xla")
  assert jax.config.jax_compilation_cache_dir == wanted
  assert programs._folder == tmp_path / "cache" / "programs"
  monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path / "mine"))
  programs.use()
  assert jax.config.jax_compilation_cache_dir == str(tmp_path / "mine")
  (tmp_path / "file").write_text("")
  programs.use(tmp_path / "file" / "x")
  assert jax.config.jax_compilation_cache_dir == str(tmp_path / "mine")
  assert programs._folder is None
  assert "No compilation cache" in capsys.readouterr().err
  jax.config.update("jax_compilation_cache_dir", str(tmp_path / "set"))
  programs.use()  # by whoever calls, in Python
  assert jax.config.jax_compilation_cache_dir == str(tmp_path / "set")
  jax.config.update("jax_enable_compilation_cache", False)
  programs.use()
  assert programs._folder is None


def test_a_user_without_a_home_goes_on(monkeypatch, own_options, capsys):
  def none() -> Path:
    raise RuntimeError("Could not determine home directory.")

  for name in ("EMMA_CACHE", "XDG_CACHE_HOME", "JAX_COMPILATION_CACHE_DIR"):
    monkeypatch.delenv(name, raising=False)
  monkeypatch.setattr(Path, "home", none)
  programs.use()
  assert programs._folder is None
  assert "Set EMMA_CACHE" in capsys.readouterr().err


def test_whoever_samples_from_a_weight_file_loads_no_training():
  apart = ["grain", "orbax", "optax", "tensorflow_datasets"]
  apart += ["array_record", "jax.experimental.pallas", "emma_jax.training"]
  program = f"""
import sys
from emma_jax.cli.sample import draw, pictures, weights
from emma_jax.build import session
from emma_jax.sampling import canvases
loaded = set({apart}) & set(sys.modules)
assert not loaded, loaded
"""
  subprocess.run([sys.executable, "-c", program], check=True)
