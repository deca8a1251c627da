"""XLA's optimized programs, parsed from `compiled.as_text()`.

The text is the only place where the compiler says what it did. A module is a
list of computations, a computation a list of instructions:

  %body.1 (param.1: (s32[], f32[8,4])) -> (s32[], f32[8,4]) {
    %dot.2 = f32[8,4]{1,0:T(8,128)S(1)} dot(%x, %w), ..., metadata={...}
  }

Custom calls may carry whole programs of another compiler as strings, of many
lines and with braces: lines are joined while a string is open, so that nothing
in a string is taken for structure.
"""

from collections.abc import Iterator, Mapping
import dataclasses
import functools
import math
import re

# Bits of an element; types without values (tokens, opaque) have none.
_BITS = {
  "pred": 8,
  "s4": 4,
  "u4": 4,
  "s8": 8,
  "u8": 8,
  "s16": 16,
  "u16": 16,
  "s32": 32,
  "u32": 32,
  "s64": 64,
  "u64": 64,
  "bf16": 16,
  "f16": 16,
  "f32": 32,
  "f64": 64,
  "c64": 64,
  "c128": 128,
  "f4e2m1fn": 4,
}

_ARRAY = re.compile(
  r"([a-z][a-z0-9]*)\[([\d,<= ]*)\]"
  r"(?:\{([\d,]*)(?::((?:[TSEDL]\([^)]*\)|\(\d[^)]*\))*))?\})?"
)
_HEADER = re.compile(r"(ENTRY )?%?([\w.~-]+) \(.*-> .*\{$")
_INSTRUCTION = re.compile(r"\s+(ROOT )?%?([\w.~-]+) = (.*)$", re.DOTALL)
_OPCODE = re.compile(r"\s*([a-z][a-z0-9-]*)\(")
_QUOTE = re.compile(r'(?<!\\)(?:\\\\)*"')
_NAME = re.compile(r"%([\w.~-]+)")


@dataclasses.dataclass(frozen=True)
class Array:
  """Type, sizes and place of an array on one device."""

  dtype: str
  sizes: tuple[int, ...]
  order: tuple[int, ...] = ()  # axes, the one that varies fastest first
  tile: tuple[int, ...] = ()  # of the fastest axes, slowest of them first
  space: int = 0  # 0 is the device's main memory (HBM)

  @property
  def elements(self) -> int:
    """How many values it holds."""
    return math.prod(self.sizes)

  @property
  def bytes(self) -> int:
    """Without the padding that a tiled layout adds."""
    return self.elements * _bits(self.dtype) // 8

  @property
  def padded_bytes(self) -> int:
    """What the array takes in memory.

    >>> Array("bf16", (3, 100), (1, 0), (8, 128)).padded_bytes
    2048
    """
    sizes = list(self.sizes)
    for axis, unit in zip(self.order, reversed(self.tile)):
      sizes[axis] = -(-sizes[axis] // unit) * unit
    return math.prod(sizes) * _bits(self.dtype) // 8

  def __str__(self) -> str:
    return f"{self.dtype}[{','.join(map(str, self.sizes))}]"


@dataclasses.dataclass(frozen=True)
class Instruction:
  """`name = arrays opcode(operands), attributes`."""

  name: str
  arrays: tuple[Array, ...]  # of a tuple, its leaves in order
  opcode: str
  operands: tuple[str, ...]
  arguments: str  # what stands in the parentheses
  attributes: str
  is_root: bool

  def attribute(self, name: str) -> str | None:
    """The value of `name=value`, up to the next comma or brace outside."""
    found = re.search(rf"(?:^|[ ,]){name}=", self.attributes)
    if not found:
      return None
    start = found.end()
    return self.attributes[start : _end_of_value(self.attributes, start)]

  def called(self, name: str) -> tuple[str, ...]:
    """Names of the computations that an attribute lists."""
    return tuple(_NAME.findall(self.attribute(name) or ""))

  def integers(self, name: str) -> tuple[int, ...]:
    """The value of `name={1,2}`."""
    return tuple(map(int, re.findall(r"\d+", self.attribute(name) or "")))

  @functools.cached_property
  def target(self) -> str:
    """What a custom call calls."""
    return (self.attribute("custom_call_target") or "").strip('"')

  @functools.cached_property
  def op_name(self) -> str:
    """JAX's path to the operation that this instruction is of."""
    found = re.search(r'op_name="((?:[^"\\]|\\.)*)"', self.attributes)
    return found.group(1) if found else ""


@dataclasses.dataclass(frozen=True)
class Computation:
  """Instructions by name, in the order of the text (the schedule)."""

  name: str
  instructions: Mapping[str, Instruction]
  is_entry: bool

  @functools.cached_property
  def root(self) -> Instruction:
    """What gives the result; ValueError where the text marks none."""
    for instruction in self.instructions.values():
      if instruction.is_root:
        return instruction
    raise ValueError(f"Computation {self.name} has no root.")

  @functools.cached_property
  def parameters(self) -> tuple[Instruction, ...]:
    """In the order of their numbers."""
    found = [i for i in self if i.opcode == "parameter"]
    return tuple(sorted(found, key=lambda i: int(i.arguments)))

  def __iter__(self) -> Iterator[Instruction]:
    return iter(self.instructions.values())

  def operands(self, instruction: Instruction) -> list[Instruction]:
    """The instructions that one of this computation reads, in order."""
    return [self.instructions[name] for name in instruction.operands]


@dataclasses.dataclass(frozen=True)
class Module:
  """A whole program, of one device."""

  computations: Mapping[str, Computation]
  frames: Mapping[int, tuple[str, int, int]]  # id -> (file, line, parent)

  @functools.cached_property
  def entry(self) -> Computation:
    """Where the program starts; ValueError where the text marks none."""
    for computation in self.computations.values():
      if computation.is_entry:
        return computation
    raise ValueError("The program has no entry computation.")

  def source(self, instruction: Instruction, within: str = "") -> str:
    """`file:line` of the Python code, "" where the compiler has lost it.

    Args:
      instruction: of this module.
      within: a package; prefer its innermost line, and leave out the path to
        it.
    """
    found = re.search(r"stack_frame_id=(\d+)", instruction.attributes)
    if not found:  # older compilers say it beside the instruction
      named = re.search(r'source_file="([^"]*)"', instruction.attributes)
      number = re.search(r"source_line=(\d+)", instruction.attributes)
      return f"{named[1]}:{number[1]}" if named and number else ""
    chain: list[tuple[str, int]] = []
    frame = int(found.group(1))
    while frame in self.frames and len(chain) < 100:
      file, line, frame = self.frames[frame]
      chain.append((file, line))
    inner = [c for c in chain if within in c[0]] or chain
    if not inner:
      return ""
    file, line = inner[0]
    start = file.rfind(f"/{within}/") + 1 if within else 0
    return f"{file[start:]}:{line}"


def parse(text: str) -> Module:
  """The module of `compiled.as_text()`.

  Raises:
    ValueError: text that is no HLO module.
  """
  computations: dict[str, Computation] = {}
  name, entry = "", False
  current: dict[str, Instruction] = {}
  tables: dict[str, dict[int, str]] = {}
  table: dict[int, str] | None = None
  for line in _joined(text):
    header = _HEADER.match(line)
    if header:
      table = None
      entry, name = bool(header.group(1)), header.group(2)
      current = {}
      computations[name] = Computation(name, current, entry)
      continue
    found = _INSTRUCTION.match(line) if name else None
    if found:
      instruction = _instruction(bool(found[1]), found[2], found[3])
      if instruction:
        current[instruction.name] = instruction
    elif re.fullmatch(r"FileNames|FileLocations|StackFrames", line):
      table = tables.setdefault(line, {})
    elif table is not None and re.match(r"\d+ ", line):
      number, _, value = line.partition(" ")
      table[int(number)] = value
    elif line.endswith("Names"):
      table = None
  if not computations:
    raise ValueError(f"No HLO module: {text[:80]!r}...")
  return Module(computations, _frames(tables))


# ----------------------------------------------------------------- pieces


def _bits(dtype: str) -> int:
  return _BITS.get(dtype, 8 if dtype.startswith("f8") else 0)


def _joined(text: str) -> Iterator[str]:
  """Lines; those with an open string are joined with what follows."""
  pending = ""
  for line in text.splitlines():
    pending = f"{pending}\n{line}" if pending else line
    if len(_QUOTE.findall(pending)) % 2 == 0:
      yield pending
      pending = ""
  if pending:
    yield pending


def _instruction(is_root: bool, name: str, rest: str) -> Instruction | None:
  """None: a line that only looks like one."""
  split = _matching(rest, 0) if rest.startswith("(") else None
  if split is None:
    first = _ARRAY.match(rest)
    if not first:
      return None
    split = first.end()
  opcode = _OPCODE.match(rest, split)
  if not opcode:
    return None
  close = _matching(rest, opcode.end() - 1)
  arguments = rest[opcode.end() : close - 1]
  return Instruction(
    name=name,
    arrays=tuple(_arrays(rest[:split])),
    opcode=opcode.group(1),
    operands=tuple(_NAME.findall(arguments)),
    arguments=arguments,
    attributes=rest[close:].lstrip(", "),
    is_root=is_root,
  )


def _arrays(text: str) -> Iterator[Array]:
  for dtype, sizes, order, layout in _ARRAY.findall(text):
    numbers = lambda s: tuple(map(int, re.findall(r"\d+", s)))
    tile = re.search(r"T\(([^)]*)\)", layout)
    space = re.search(r"S\((\d+)\)", layout)
    yield Array(
      dtype,
      numbers(sizes),
      numbers(order),
      numbers(tile.group(1)) if tile else (),
      int(space.group(1)) if space else 0,
    )


_OPEN, _CLOSE = "([{", ")]}"


def _matching(text: str, start: int) -> int:
  """The place behind the bracket that closes the one at `start`."""
  depth, in_string, i = 0, False, start
  while i < len(text):
    c = text[i]
    if c == "\\":
      i += 1
    elif c == '"':
      in_string = not in_string
    elif not in_string and c in _OPEN:
      depth += 1
    elif not in_string and c in _CLOSE:
      depth -= 1
      if not depth:
        return i + 1
    i += 1
  return len(text)


def _end_of_value(text: str, start: int) -> int:
  i = start
  while i < len(text):
    c = text[i]
    if c in _OPEN:
      i = _matching(text, i)
    elif c == '"':
      i = _end_of_string(text, i)
    elif c == ",":
      return i
    else:
      i += 1
  return i


def _end_of_string(text: str, start: int) -> int:
  found = re.compile(r'"(?:[^"\\]|\\.)*"', re.DOTALL).match(text, start)
  return found.end() if found else len(text)


def _frames(tables: Mapping[str, Mapping[int, str]]) -> dict:
  """Stack frames from the tables at the head of a module."""
  files = {k: v.strip('"') for k, v in tables.get("FileNames", {}).items()}
  number = lambda text, key: int(
    (re.search(rf"\b{key}=(\d+)", text) or [0, 0])[1]
  )
  places = {
    k: (files.get(number(v, "file_name_id"), ""), number(v, "line"))
    for k, v in tables.get("FileLocations", {}).items()
  }
  out = {}
  for k, v in tables.get("StackFrames", {}).items():
    file, line = places.get(number(v, "file_location_id"), ("", 0))
    # Parents are written one too high: 0 would be "none", and is left out.
    out[k] = (file, line, number(v, "parent_frame_id") - 1)
  return out
