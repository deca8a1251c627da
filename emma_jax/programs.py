"""Compiled programs that outlive their process: the one door to their folder.

`use` names the folder, by default `directory()` in the user's caches:

  xla/        JAX's own cache: what XLA made, found once a program is traced
              and lowered, which takes most of a second start. All commands.
  programs/   whole executables of what is `kept`, the sampler's programs,
              found before anything is traced, and not in the other as well.
              One device, one process.

An executable is used for exactly what it was made for: its file holds the
whole key (`_Kept._key`: the function, its static arguments, the shapes, the
text of this package, the versions, options and devices that decide what XLA
makes) beside a SHA-256 over everything. Whatever else lies there, is damaged,
or belongs to another user counts as not there: the program is compiled again.
JAX's own options hold: JAX_ENABLE_COMPILATION_CACHE=0 turns both off, and
JAX_COMPILATION_CACHE_DIR moves the first.
"""

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
import contextlib
import functools
import hashlib
import importlib.metadata
import inspect
import os
import pathlib
import pickle
import platform
import sys
from typing import Any

from emma_jax import files

_MAGIC = b"emma_jax program 1\n"
# Of all executables; those that were used last stay.
_MOST_BYTES = 2**29
_folder: pathlib.Path | None = None  # of executables; None: keep none


def directory() -> pathlib.Path:
  """EMMA_CACHE, or emma_jax in the user's cache directory."""
  if os.environ.get("EMMA_CACHE"):
    return pathlib.Path(os.environ["EMMA_CACHE"]).expanduser()
  base = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
  return pathlib.Path(base) / "emma_jax"


def use(folder: str | pathlib.Path | None = None) -> None:
  """Lets compiled programs stay on disk; the second start is faster.

  Args:
    folder: of JAX's cache, or a bucket such as "gs://..."; None: that of
      JAX_COMPILATION_CACHE_DIR, or "xla" in `directory()`. One that cannot be
      written is reported and not used.
  """
  import jax  # here: commands that only print need not load it

  global _folder
  _folder = None
  if not _option("jax_enable_compilation_cache"):
    return
  own = directory()
  told = folder or os.environ.get("JAX_COMPILATION_CACHE_DIR")
  path = told or own / "xla"
  try:
    if "://" not in str(path):
      pathlib.Path(path).mkdir(parents=True, exist_ok=True)
  except OSError as error:
    print(f"No compilation cache: {error}", file=sys.stderr)
    return
  jax.config.update("jax_compilation_cache_dir", str(path))
  jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
  with contextlib.suppress(OSError):  # then JAX's cache alone serves
    (own / "programs").mkdir(parents=True, exist_ok=True)
    _folder = own / "programs"


@contextlib.contextmanager
def using(folder: pathlib.Path | None) -> Iterator[None]:
  """Executables are kept in `folder` meanwhile; None: nowhere."""
  global _folder
  before, _folder = _folder, folder
  try:
    yield
  finally:
    _folder = before


def kept(*static: str) -> Callable[[Callable], Any]:
  """Like `jax.jit` with these static arguments, and kept on disk.

  Under a mesh, over several processes, while it is traced itself, or before
  `use`, it is `jax.jit` and nothing else.
  """
  return functools.partial(_Kept, static=static)


class _Kept:
  """A jitted function whose executables outlive the process."""

  def __init__(self, function: Callable, static: Sequence[str]):
    import jax

    self._static = frozenset(static)
    self._names = tuple(inspect.signature(function).parameters)
    self._jitted = jax.jit(function, static_argnames=tuple(static))
    self._programs: dict[Hashable, Any] = {}
    functools.update_wrapper(self, function)

  def __getattr__(self, name: str) -> Any:
    """`lower`, `trace`, `eval_shape`: those of the jitted function."""
    if name.startswith("__"):
      raise AttributeError(name)
    return getattr(self._jitted, name)

  def __call__(self, *args: Any, **kwargs: Any) -> Any:
    """The function of its arguments."""
    if _folder is None:
      return self._jitted(*args, **kwargs)
    import jax

    named = dict(zip(self._names, args))
    static = {k: v for k, v in (named | kwargs).items() if k in self._static}
    rest = [v for k, v in named.items() if k not in self._static]
    more = {k: v for k, v in kwargs.items() if k not in self._static}
    leaves, tree = jax.tree.flatten((rest, more))
    if not _on_first_device(leaves):
      return self._jitted(*args, **kwargs)
    shapes = tuple(map(_shape, leaves))
    key = (tuple(sorted(static.items())), tree, shapes, _options())
    program = self._programs.get(key)
    if program is not None:
      return program(*rest, **more)
    text = self._key(static, tree, shapes)
    if text and (program := _read(text)):
      try:
        made = jax.block_until_ready(program(*rest, **more))
        self._programs[key] = program
        return made
      except Exception:  # one that loads and does not run is damaged too
        with contextlib.suppress(OSError):
          _path(text).unlink(missing_ok=True)
    lowered = self._jitted.lower(*args, **kwargs)
    with _without_jaxs_cache() if text else contextlib.nullcontext():
      program = lowered.compile()
    if text:
      _write(text, program)
    self._programs[key] = program
    return program(*rest, **more)

  def _key(
    self, static: Mapping[str, Any], tree: Any, shapes: Sequence[Hashable]
  ) -> str | None:
    """All that decides what the executable is; None: that cannot be told."""
    function = self.__wrapped__
    try:
      environment = _environment()
    except Exception:  # an installation without files, or without versions
      return None
    parts = [
      f"{function.__module__}.{function.__qualname__}",
      *(f"{k}={static[k]!r}" for k in sorted(static)),
      str(tree),
      repr(shapes),
      *environment,
      repr(_options()),
    ]
    text = "\n".join(parts)
    return None if " at 0x" in text else text  # a repr that is an address


@contextlib.contextmanager
def _without_jaxs_cache() -> Iterator[None]:
  """What comes from JAX's cache cannot be kept.

  XLA serialises on CPUs only what it has compiled itself; else the file lacks
  the code of some functions.
  """
  import jax
  from jax.experimental.compilation_cache import compilation_cache

  name = "jax_enable_compilation_cache"
  before = _option(name)
  try:
    jax.config.update(name, False)
    compilation_cache.reset_cache()  # it asks once for all whether it is on
    yield
  finally:
    jax.config.update(name, before)
    compilation_cache.reset_cache()


def _on_first_device(leaves: Sequence[Any]) -> bool:
  """Whether all is concrete and lies where a program runs by default."""
  import jax

  if jax.process_count() > 1 or _option("jax_disable_jit"):
    return False
  if not jax.sharding.get_abstract_mesh().empty:
    return False
  first = jax.local_devices()[0]
  return all(_lies_on(first, x) for x in leaves)


def _lies_on(device: Any, x: Any) -> bool:
  """Whether a leaf is of the host, or whole and by itself on the device."""
  import jax

  if not isinstance(x, jax.Array):
    return True
  if isinstance(x, jax.core.Tracer):
    return False
  place = x.sharding  # a mesh's is another, also of one device
  return (
    isinstance(place, jax.sharding.SingleDeviceSharding)
    and place.device_set == {device}
    and place.memory_kind in (None, device.default_memory().kind)
  )


def _shape(x: Any) -> Hashable:
  """What a program is compiled for of an argument."""
  if isinstance(x, (bool, int, float, complex)):
    return type(x).__name__  # weakly typed
  weak = bool(getattr(x, "weak_type", False))
  return tuple(x.shape), str(x.dtype), weak


# ------------------------------------------------------------- the key's parts


@functools.cache
def _environment() -> tuple[str, ...]:
  """Of this process: code, versions and devices."""
  import flax
  import jax
  import numpy as np

  device = jax.local_devices()[0]
  client = device.client
  versions = {
    "python": platform.python_version(),
    "jaxlib": importlib.metadata.version("jaxlib"),
    **{m.__name__: m.__version__ for m in (flax, jax, np)},
  }
  return (
    f"source {_source()}",
    f"versions {versions}",
    f"device {device.platform} {device.device_kind} {client.platform_version}",
    f"devices {jax.local_device_count()}",
    f"machine {platform.machine()} {_processor()}",
    *(f"{k}={os.environ.get(k)}" for k in ("XLA_FLAGS", "LIBTPU_INIT_ARGS")),
  )


def _source() -> str:
  """A digest of this package's text: whatever a program may be traced from."""
  root = pathlib.Path(__file__).parent
  paths = sorted(root.rglob("*.py"))
  if not paths:
    raise FileNotFoundError(f"{root} holds no source.")
  sha = hashlib.sha256()
  for path in paths:
    sha.update(f"{path.relative_to(root)}\n".encode())
    sha.update(path.read_bytes())
  return sha.hexdigest()


def _processor() -> str:
  """What code for CPUs is made for, and how many threads it is split over."""
  try:
    cores = len(os.sched_getaffinity(0))
  except AttributeError:  # not every system has it
    cores = os.cpu_count() or 0
  try:
    lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
  except OSError:
    return f"{platform.processor()}, {cores} cores"
  told = ("model name", "flags", "Features", "CPU part")
  about = [x for x in lines if x.partition("\t")[0].strip() in told]
  text = "\n".join(sorted(set(about)))
  return f"{hashlib.sha256(text.encode()).hexdigest()}, {cores} cores"


def _option(name: str) -> Any:
  """Of JAX, as it is here: a context may have changed it."""
  import jax

  return getattr(jax.config, name, None)


# Options of JAX that say where and how caches lie, or what is printed.
_ELSEWHERE = ("cache", "log", "dump", "traceback", "profil", "explain")


def _options() -> tuple[str, ...]:
  """JAX's options as they are here and now, contexts included."""
  import jax

  names = getattr(jax.config, "values", {})
  return tuple(
    f"{name}={_option(name)}"
    for name in sorted(names)
    if not any(word in name for word in _ELSEWHERE)
  )


# ---------------------------------------------------------------------- files


def _path(text: str) -> pathlib.Path:
  assert _folder is not None
  name = text.partition("\n")[0].rpartition(".")[2]
  digest = hashlib.sha256(text.encode()).hexdigest()[:32]
  return _folder / f"{name}-{digest}"


def _read(text: str) -> Any:
  """The executable of a key; None where it is not there, whole and ours."""
  from jax.experimental import serialize_executable

  path = _path(text)
  try:
    owner = path.stat().st_uid
    if hasattr(os, "getuid") and owner not in (os.getuid(), 0):
      return None
    content = path.read_bytes()
    magic, digest = content[: len(_MAGIC)], content[len(_MAGIC) :][:32]
    body = content[len(_MAGIC) + 32 :]
    if magic != _MAGIC or digest != hashlib.sha256(body).digest():
      return None
    stored, program = pickle.loads(body)
    if stored != text:
      return None
    os.utime(path)  # it was used
    return serialize_executable.deserialize_and_load(*program)
  except Exception:  # whatever it is: compiling it anew is right
    return None


def _write(text: str, program: Any) -> None:
  """Keeps an executable, if its backend lets it and the disk too."""
  from jax.experimental import serialize_executable

  try:
    made = serialize_executable.serialize(program)
    body = pickle.dumps((text, made))
    with files.atomic_write(_path(text), shared=True) as file:
      file.write(_MAGIC + hashlib.sha256(body).digest() + body)
    _make_room(_path(text).parent)
  except Exception:  # the result is there; the next start compiles again
    return


def _make_room(folder: pathlib.Path) -> None:
  """Lets those go that were used longest ago."""
  found = [(path.stat(), path) for path in folder.iterdir()]
  total = sum(stat.st_size for stat, _ in found)
  for stat, path in sorted(found, key=lambda one: one[0].st_mtime):
    if total <= _MOST_BYTES:
      return
    path.unlink(missing_ok=True)
    total -= stat.st_size
