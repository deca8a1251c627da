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
or belongs to another user counts as not there (`program_files`): the program is
compiled again. So it is where the key could be wrong: the package's text has
changed since it was imported, or the model is of code that is not in it.
JAX's own options hold: JAX_ENABLE_COMPILATION_CACHE=0 turns both off, and
JAX_COMPILATION_CACHE_DIR, or a folder set in Python before, moves the first.
"""

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
import contextlib
import functools
import hashlib
import importlib.metadata
import inspect
import os
import pathlib
import platform
import sys
import threading
import time
from typing import Any

from emma_jax import program_files

_folder: pathlib.Path | None = None  # of executables; None: keep none
_used: str | None = None  # what `use` told JAX last
# Compiling turns JAX's cache off for a while, which is one for all threads.
_LOCK = threading.RLock()
_IMPORTED = time.time()
# Says what is so anyway. With an option of its own a program is compiled, where
# JAX would hand out again the executable that its jit has from the disk: that
# one cannot be serialised (`_without_jaxs_cache`).
_OWN: dict[str, str | bool] = {"xla_dump_hlo_as_text": False}


def directory() -> pathlib.Path:
  """EMMA_CACHE, or emma_jax in the user's cache directory.

  Raises:
    OSError: a user without a home, and neither EMMA_CACHE nor XDG_CACHE_HOME.
  """
  try:
    if os.environ.get("EMMA_CACHE"):
      return pathlib.Path(os.environ["EMMA_CACHE"]).expanduser()
    base = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
  except RuntimeError as error:
    raise FileNotFoundError(f"{error} Set EMMA_CACHE to a folder.") from error
  return pathlib.Path(base) / "emma_jax"


def use(folder: str | pathlib.Path | None = None) -> None:
  """Lets compiled programs stay on disk; the second start is faster.

  Args:
    folder: of JAX's cache, or a bucket such as "gs://..."; None: the one that
      JAX has been told, by JAX_COMPILATION_CACHE_DIR or in Python, else "xla"
      in `directory()`. One that cannot be written is reported and not used.
  """
  import jax  # here: commands that only print need not load it

  global _folder, _used
  _folder = None
  if not _option("jax_enable_compilation_cache"):
    return
  option = _option("jax_compilation_cache_dir")
  others = None if option == _used else option
  told = folder or others or os.environ.get("JAX_COMPILATION_CACHE_DIR")
  try:
    own = directory()
    path = told or own / "xla"
    if "://" not in str(path):
      pathlib.Path(path).mkdir(parents=True, exist_ok=True)
  except OSError as error:
    print(f"No compilation cache: {error}", file=sys.stderr)
    return
  _used = str(path)
  jax.config.update("jax_compilation_cache_dir", _used)
  jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
  if program_files.make(own / "programs"):  # else JAX's cache alone serves
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
    if name.startswith("_"):  # one that is being copied has none yet
      raise AttributeError(name)
    return getattr(self._jitted, name)

  def __call__(self, *args: Any, **kwargs: Any) -> Any:
    """The function of its arguments."""
    folder = _folder
    if folder is None:
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
    with _LOCK:
      program = self._programs.get(key)  # of another thread, meanwhile
      if program is None:
        text = self._key(static, tree, shapes)
        if text and (program := program_files.read(folder, text)):
          try:
            made = jax.block_until_ready(program(*rest, **more))
            self._programs[key] = program
            return made
          except Exception:  # one that loads and does not run is damaged too
            program_files.forget(folder, text)
        program, own = self._compiled(args, kwargs, text is not None)
        if text and own:
          program_files.write(folder, text, program)
        self._programs[key] = program
    return program(*rest, **more)

  def _compiled(self, args: Any, kwargs: Any, keep: bool) -> tuple[Any, bool]:
    """An executable, and whether XLA has compiled it just now."""
    lowered = self._jitted.lower(*args, **kwargs)
    if not keep:
      return lowered.compile(), False
    with _without_jaxs_cache():
      try:
        return lowered.compile(compiler_options=_OWN), True
      except Exception:  # an option that a compiler does not know, or anything
        return lowered.compile(), False

  def _key(
    self, static: Mapping[str, Any], tree: Any, shapes: Sequence[Hashable]
  ) -> str | None:
    """All that decides what the executable is; None: that cannot be told."""
    function = self.__wrapped__
    if not all(map(_is_of_package, static.values())):
      return None
    try:
      source, environment = _source(), _environment()
    except Exception:  # an installation without files, or without versions
      return None
    parts = [
      f"{function.__module__}.{function.__qualname__}",
      *(f"{k}={static[k]!r}" for k in sorted(static)),
      str(tree),
      repr(shapes),
      f"source {source}",
      *environment,
      repr(_options()),
    ]
    text = "\n".join(parts)
    return None if " at 0x" in text else text  # a repr that is an address


def _is_of_package(value: Any) -> bool:
  """Whether a static argument is of the text that is digested.

  A model of a class that was written in a notebook is not.
  """
  text = repr(value)
  return (
    type(value).__module__.partition(".")[0] in ("builtins", "emma_jax")
    and "__main__" not in text
    and "<locals>" not in text
  )


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
  if _option("jax_default_device") not in (None, first):
    return False
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
  """Of this process: versions and devices."""
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
    f"versions {versions}",
    f"device {device.platform} {device.device_kind} {client.platform_version}",
    f"devices {jax.local_device_count()}",
    f"machine {platform.machine()} {_processor()}",
    *(f"{k}={_flags(k)}" for k in ("XLA_FLAGS", "LIBTPU_INIT_ARGS")),
  )


def _flags(name: str) -> str | None:
  """Of the environment; XLA takes what has no dash for a file of flags."""
  text = os.environ.get(name)
  if not text or text.lstrip().startswith("-"):
    return text
  return pathlib.Path(text).read_text("utf-8", "backslashreplace")


def _source() -> str:
  """A digest of this package's text: whatever a program may be traced from.

  Raises:
    OSError: it is not there, or is no longer what was imported.
  """
  root = pathlib.Path(__file__).parent
  paths = sorted(root.rglob("*.py"))
  if not paths:
    raise FileNotFoundError(f"{root} holds no source.")
  for path in paths:
    about = path.stat()
    if max(about.st_mtime, about.st_ctime) > _IMPORTED:
      raise OSError(f"{path} has changed since it was imported.")
  return _digest(root, tuple(paths))


@functools.cache
def _digest(root: pathlib.Path, paths: Sequence[pathlib.Path]) -> str:
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
