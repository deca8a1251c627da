"""Chips by name, and descriptions of pods that nobody needs to own.

A TPU topology comes from libtpu, which knows every chip on any machine; a GPU
is described to XLA in a text, from which it compiles without a driver.
"""

from collections.abc import Sequence
import dataclasses
import importlib.metadata
import math
import re
from typing import Any

import jax

from emma_jax import xla_flags
from emma_jax.planner.chip_table import CHIPS, Chip, of_kind, usable_bytes

__all__ = [
  "CHIPS",
  "Chip",
  "PlanError",
  "Topology",
  "describe",
  "of_kind",
  "topology",
  "usable_bytes",
]


class PlanError(ValueError):
  """A plan that cannot be made; the message says why and what to do."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Topology:
  """A pod slice or GPUs, and how many slices of it."""

  chip: Chip
  sizes: tuple[int, ...]  # of the torus; of GPUs their number
  slices: int = 1

  @property
  def chips(self) -> int:
    """Chips of all slices."""
    return math.prod(self.sizes) * self.slices

  @property
  def devices(self) -> int:
    """What JAX sees: of some chips two each."""
    return self.chips * self.chip.devices_per_chip

  def __str__(self) -> str:
    name = f"{self.chip.name}:{'x'.join(map(str, self.sizes))}"
    return f"{self.slices} x {name}" if self.slices > 1 else name


# Chips of a slice -> its sizes, as they are sold.
_FLAT = {
  1: "1x1",
  4: "2x2",
  8: "2x4",
  16: "4x4",
  32: "4x8",
  64: "8x8",
  128: "8x16",
  256: "16x16",
}
_DEEP = {
  4: "2x2x1",
  8: "2x2x2",
  16: "2x2x4",
  32: "2x4x4",
  64: "4x4x4",
  128: "4x4x8",
  256: "4x8x8",
  512: "8x8x8",
  1024: "8x8x16",
  2048: "8x16x16",
  4096: "16x16x16",
}
# What else people call a chip.
_ALSO = {
  "v5litepod": "v5e",
  "v5lite": "v5e",
  "v6litepod": "v6e",
  "v6lite": "v6e",
  "trillium": "v6e",
  "ironwood": "tpu7x",
  "v7x": "tpu7x",
  "a100-80gb": "a100",
  "a100-sxm4-80gb": "a100",
  "a100-sxm4-40gb": "a100-40gb",
  "h100-80gb": "h100",
  "h100-sxm": "h100",
  "4090": "rtx4090",
  "3090": "rtx3090",
  "rtxa6000": "a6000",
}
_EXAMPLES = "v5e:16x16, v5e-256, v5p:4x4x4, v5p-128, h100:8, rtx4090"


def topology(name: str, slices: int = 1) -> Topology:
  """`v5p:4x4x4`, `v5e:256`, `v5litepod-256`, `2xv6e-256`, `8xh100`, `l4`, ...

  A number behind a colon counts chips; behind a hyphen it is what the cloud
  calls the machine, which of v4 and v5p counts cores, two a chip.

  >>> str(topology("v5litepod-256")), str(topology("v5p-128"))
  ('v5e:16x16', 'v5p:4x4x4')
  >>> str(topology("2xv6e:16x16")), str(topology("8xH100"))
  ('2 x v6e:16x16', 'h100:8')

  Raises:
    PlanError: a name that is no chip's, or sizes it cannot have.
  """
  times, kind, mark, size = _read(name)
  chip = CHIPS[kind]
  sizes: tuple[int, ...]
  if chip.platform == "cuda":
    if times and size:
      raise PlanError(f"Topology {name!r} counts twice: write {kind}:8.")
    sizes = (_gpus(name, chip, size or times or "1"),)
  else:
    if times and slices > 1:
      raise PlanError(f"{name!r} says its slices: leave out {slices=}.")
    sizes = _torus(name, chip, mark, size)
    slices = int(times or slices)
  if slices < 1 or (slices > 1 and chip.platform == "cuda"):
    raise PlanError(
      f"{slices=}: give 1 or more, and 1 for GPUs (name them "
      "all, as h100:64; hosts of 8 are joined by the network)."
    )
  return Topology(chip=chip, sizes=sizes, slices=slices)


def _read(name: str) -> tuple[str, str, str, str]:
  """(number before it, chip, mark, what follows the mark) of a name."""
  text = re.sub(r"[\s_]+", "", name.lower()).removeprefix("nvidia")
  text = re.sub(r"^(\d+x)?(rtx|geforcertx)-?", r"\1rtx", text)
  found = re.fullmatch(r"(?:(\d+)x)?(.+?)(?:([:-])([\dx]*))?", text)
  times, kind, mark, size = found.groups("") if found else ("",) * 4
  whole = f"{kind}{mark}{size}"
  if whole in (*CHIPS, *_ALSO):  # a hyphen of the chip's own
    kind, mark, size = whole, "", ""
  kind = _ALSO.get(kind, kind)
  if kind not in CHIPS:
    raise PlanError(
      f"Unknown topology {name!r}: chips are {', '.join(CHIPS)}. Write one "
      f"such as {_EXAMPLES}."
    )
  return times, kind, mark, size


def _gpus(name: str, chip: Chip, text: str) -> int:
  if not text.isdigit() or int(text) < 1:
    raise PlanError(
      f"Topology {name!r}: a {chip.name} has 1 axis; write {chip.name}:8."
    )
  count = int(text)
  if count > chip.host_devices and count % chip.host_devices:
    raise PlanError(
      f"Topology {name!r}: beyond {chip.host_devices} GPUs give "
      f"a multiple of {chip.host_devices}, whole hosts."
    )
  return count


def _torus(name: str, chip: Chip, mark: str, text: str) -> tuple[int, ...]:
  """Sizes of a TPU slice that a name gives or counts."""
  kind, known = chip.name, _FLAT if chip.axes == 2 else _DEEP
  example = f"{kind}:{'x'.join(['4'] * chip.axes)}"
  if text.isdigit():
    cores = 2 if mark == "-" and kind in ("v4", "v5p") else 1
    chips = int(text) // cores
    if chips * cores != int(text) or chips not in known:
      counts = ", ".join(str(n * cores) for n in known)
      raise PlanError(
        f"Topology {name!r}: slices of a {kind} named so have {counts}; or"
        f" write its {chip.axes} axes, as {example}."
      )
    text = known[chips]
  if not re.fullmatch(r"\d+(x\d+)*", text):
    raise PlanError(f"Topology {name!r} lacks its size: write {example}.")
  sizes = tuple(map(int, text.split("x")))
  if len(sizes) != chip.axes or min(sizes) < 1:
    raise PlanError(
      f"Topology {name!r}: a {kind} has {chip.axes} axes; write {example}."
    )
  return sizes


def describe(wanted: Topology) -> Sequence[jax.Device]:
  """Devices to compile for; nothing can run on them.

  Raises:
    PlanError: a compiler that is missing or does not belong to this jax, or
      sizes that it refuses.
  """
  from jax.experimental import topologies  # opens the compiler's library

  chip = wanted.chip
  if chip.platform == "cuda":
    check_cuda()
    count = wanted.sizes[0]
    hosts = -(-count // chip.host_devices)
    options: dict[str, Any] = dict(
      target_config=chip.target, topology=f"1x{hosts}x{count // hosts}"
    )
    name = ""
  else:
    check_libtpu()
    known = chip.compiled_as or chip.name
    name = f"{known}:{'x'.join(map(str, wanted.sizes))}"
    options = {}
    if wanted.slices > 1:
      options["num_slices"] = wanted.slices
    if chip.config_name:
      options["chip_config_name"] = chip.config_name
  xla_flags.only_compile()
  try:
    found = topologies.get_topology_desc(name, chip.platform, **options)
  except Exception as error:
    reason = str(error).splitlines()[0]
    raise PlanError(f"The compiler refuses {wanted}: {reason}") from error
  devices = list(found.devices)
  if len(devices) != wanted.devices:
    raise PlanError(
      f"{wanted} has {len(devices)} devices here, not "
      f"{wanted.devices} as the planner's table says."
    )
  return devices


# ------------------------------------------------------------------- pairs


def check_libtpu() -> None:
  """Raises PlanError unless libtpu is the one that this jax is made for.

  With another one compiling seems to work, until reading the program fails.
  """
  wanted = required_libtpu()
  command = f'pip install "jax[tpu]=={jax.__version__}"'
  try:
    found = importlib.metadata.version("libtpu")
  except importlib.metadata.PackageNotFoundError as error:
    raise PlanError(
      f"Compiling for TPUs needs libtpu {wanted}, which belongs to jax "
      f"{jax.__version__} and runs on any Linux machine: {command}"
    ) from error
  if not matches(found, wanted):
    raise PlanError(
      f"jax {jax.__version__} and libtpu {found} are no pair: this jax is "
      f"made for libtpu {wanted}. Install the pair: {command}"
    )


def required_libtpu() -> str:
  """What the installed jax asks for, such as 0.0.42.*."""
  for line in importlib.metadata.requires("jax") or ():
    found = re.match(r"libtpu\s*==\s*([\d.*]+)", line)
    if found:
      return found.group(1)
  raise PlanError(
    f"jax {jax.__version__} does not say which libtpu it needs; "
    "install a released jax."
  )


def matches(version: str, pattern: str) -> bool:
  """Whether a version is one of `0.0.42.*`.

  >>> matches("0.0.42.1", "0.0.42.*"), matches("0.0.52", "0.0.42.*")
  (True, False)
  """
  if not pattern.endswith(".*"):
    return version == pattern
  return f"{version}.".startswith(pattern[:-1])


def check_cuda() -> None:
  """Raises PlanError unless XLA for GPUs is there, as old as this jax."""
  for major in ("13", "12"):
    try:
      found = importlib.metadata.version(f"jax-cuda{major}-plugin")
    except importlib.metadata.PackageNotFoundError:
      continue
    if found != jax.__version__:
      raise PlanError(
        f"jax {jax.__version__} and jax-cuda{major}-plugin {found} are no "
        f'pair. Install the pair: pip install "jax[cuda{major}]=='
        f'{jax.__version__}"'
      )
    return
  raise PlanError(
    "Compiling for GPUs needs XLA's part for them, but no GPU "
    'and no driver: pip install "emma-jax[cuda]"'
  )
