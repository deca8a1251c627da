"""What every test shares: the CPU, a compilation cache, the shared folder."""

import gc
import os
from pathlib import Path
import signal

REPO = Path(__file__).resolve().parent.parent
# Pieces of a process's memory at which it forgets compiled programs.
MOST_MAPS = 20_000

# Before jax is imported, and as variables, so that child processes follow.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(REPO / ".cache" / "jax"))
# Executables that commands keep: not in the cache of who runs the tests.
os.environ.setdefault("EMMA_CACHE", str(REPO / ".cache" / "emma"))
# 0.3 s: below it, reading a program back is no faster than compiling it.
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.3")
os.environ.setdefault(
  "HYPOTHESIS_STORAGE_DIRECTORY", str(REPO / ".cache" / "hypothesis")
)
# Programs are compiled for a few calls: LLVM's optimisations left out halve the
# compiler's time, which is most of the suite's. Numbers hold their tolerances
# either way; EMMA_TEST_FLAGS= compiles as users do.
os.environ["XLA_FLAGS"] = " ".join(
  filter(
    None,
    [
      os.environ.get("XLA_FLAGS", ""),
      os.environ.get("EMMA_TEST_FLAGS", "--xla_backend_optimization_level=0"),
    ],
  )
)
# An accidental (B,) + (L, B) must not pass as arithmetic.
os.environ.setdefault("JAX_NUMPY_RANK_PROMOTION", "raise")

import jax
import pytest

pytest_plugins = ("tests.skips",)


# Of two processes that take file after file, none is to begin a long one when
# the other has nothing left to do: the longest come first (`--durations=100`).
LONGEST = (
  "training/test_hosts.py",
  "speed/test_torch_step.py",
  "test_sharding.py",
  "sampling/test_sharded.py",
  "training/test_planned.py",
  "convert/test_dcae_torch.py",
  "convert/test_emma_torch.py",
  "planner/test_plan.py",
  "training/test_resume.py",
  "models/test_parity_torch.py",
  "sampling/test_session.py",
  "models/test_dcae.py",
  "training/test_objectives.py",
  "planner/test_tpu.py",
  "training/test_step.py",
  "training/test_accumulation.py",
  "training/test_precision.py",
  "build/test_measured.py",
  "sampling/test_text.py",
  "sampling/test_filled.py",
  "benchmarks/test_predict.py",
  "models/test_tiling.py",
)


def pytest_collection_modifyitems(items):
  if "PYTEST_XDIST_WORKER" not in os.environ:
    return  # one process, as in a mutation run, which begins with the fastest
  names = {REPO / "tests" / name: n for n, name in enumerate(LONGEST)}
  items.sort(key=lambda item: names.get(item.path, len(names)))


@pytest.fixture(scope="session")
def repo() -> Path:
  """The root of the checkout."""
  return REPO


@pytest.fixture(scope="session")
def shared_dir() -> Path:
  """The folder of examples beside the checkout; the test is skipped without."""
  folder = REPO.parent / "shared"
  if not folder.is_dir():
    pytest.skip(f"{folder} is not there.")
  return folder


@pytest.fixture
def exact_products():
  """Float32 products, also where the backend would round them."""
  with jax.default_matmul_precision("highest"):
    yield


@pytest.fixture
def hangups_heard():
  """SIGHUP as a shell leaves it, also where nohup runs the tests."""
  before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
  yield
  signal.signal(signal.SIGHUP, before)


@pytest.fixture(autouse=True, scope="module")
def few_programs():
  """Programs of files that are done go, once there are very many.

  Each lies in pieces of memory of its own. Where there are as many as Linux
  allows (vm.max_map_count, 65,530), XLA ends the process when it asks for one.
  """
  yield
  maps = Path("/proc/self/maps")
  if maps.exists() and len(maps.read_bytes().splitlines()) > MOST_MAPS:
    jax.clear_caches()
    gc.collect()


@pytest.fixture(autouse=True)
def no_kept_programs():
  """A command that was called in a test keeps no programs of the next one's."""
  from emma_jax import programs

  with programs.using(None):
    yield


@pytest.fixture
def own_cache(monkeypatch):
  """A command that is called here leaves the tests' compilation cache."""
  monkeypatch.setattr("emma_jax.programs.use", lambda *_: None)
