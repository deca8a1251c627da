"""One reader of config.json: a table of fields for each family of weights.

Of each key the table says what it must be (type and range) and what it means
where the file is silent: an error, or what the reference implementation takes,
with its class and version. All that is wrong is told at once, and what was
taken from the defaults is handed back to be told too.

  FIELDS = (
    Field("hidden_size", whole(1, 4096)),
    Field("head_dim", whole(2, 512), default=128, source="Qwen3Config of ..."),
  )
  values, taken = read(FIELDS, config, "Qwen3-4B/config.json")
"""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
import math
import reprlib
from typing import Any

# What a value must be: gives it as we use it, or raises ValueError with the
# words that follow "must be".
Kind = Callable[[Any], Any]

# ("key=value", class and version it is from) of each default that was taken.
Taken = tuple[tuple[str, str], ...]

_ABSENT = object()  # in place of a default or of null: an error


class ConfigError(ValueError):
  """A config.json that is wrong, of another family, or not implemented."""


@dataclasses.dataclass(frozen=True)
class Field:
  """One key of a config.json.

  key: its name.
  kind: what its value must be, such as `whole(1, 9)`.
  default: what its absence means in the reference implementation, as it stands
    in a file (it goes through `kind` too); without one the key must be there.
  source: class and version that has this default.
  null: what null means, likewise; without one null is an error.
  told: whether it is worth telling that the default was taken: not of keys
    with one implemented value, which older files lack.
  """

  key: str
  kind: Kind
  default: Any = _ABSENT
  source: str = ""
  null: Any = _ABSENT
  told: bool = True

  @property
  def required(self) -> bool:
    """Whether there is no default."""
    return self.default is _ABSENT


# --------------------------------------------------------------------- kinds


def whole(least: int, most: int) -> Kind:
  """A whole number in a range, written without a fraction."""

  def kind(value: Any) -> int:
    if type(value) is not int or not least <= value <= most:
      raise ValueError(f"a whole number from {least} to {most}")
    return value

  return kind


def number(above: float, most: float) -> Kind:
  """A finite number greater than `above`, at most `most`."""

  def kind(value: Any) -> float:
    if type(value) not in (int, float) or not above < value <= most:
      raise ValueError(f"a number above {above:g}, at most {most:g}")
    return float(value)

  return kind


def flag(value: Any) -> bool:
  """true or false; words and numbers are neither."""
  if type(value) is not bool:
    raise ValueError("true or false, without quotes")
  return value


def word(value: Any) -> str:
  """Any text."""
  if type(value) is not str:
    raise ValueError("a text")
  return value


def section(value: Any) -> dict[str, Any]:
  """A JSON object."""
  if type(value) is not dict:
    raise ValueError("an object of keys and values")
  return value


def only(*allowed: Any, remedy: str) -> Kind:
  """One of a few values: what is implemented."""

  def kind(value: Any) -> Any:
    # By type too, or 0 would be False and 1.0 True.
    for one in allowed:
      numbers = {type(value), type(one)} == {int, float}
      if value == one and (type(value) is type(one) or numbers):
        return one
    few = " or ".join(_json(one) for one in allowed)
    raise ValueError(f"{few}, as nothing else is implemented; {remedy}")

  return kind


def each(kind: Kind, least: int, most: int) -> Kind:
  """A list of so many items of a kind, as a tuple."""

  def kinds(value: Any) -> tuple:
    if type(value) not in (list, tuple) or not least <= len(value) <= most:
      raise ValueError(f"a list of {least} to {most} items")
    out = []
    for i, item in enumerate(value):
      try:
        out.append(kind(item))
      except ValueError as error:
        raise ValueError(f"a list whose item {i} is {error}") from None
    return tuple(out)

  return kinds


def either(one: Kind, many: Kind) -> Kind:
  """One value, or a list as `many` takes it."""

  def kind(value: Any) -> Any:
    return many(value) if type(value) in (list, tuple) else one(value)

  return kind


def square(side: Kind) -> Kind:
  """A length, written as one number or as two equal ones."""

  def kind(value: Any) -> Any:
    sides = value if type(value) in (list, tuple) else [value]
    if type(value) in (list, tuple) and len(value) != 2:
      raise ValueError("one length, or two that are equal")
    lengths = {side(x) for x in sides}
    if len(lengths) != 1:
      raise ValueError("square; oblong ones are not implemented")
    return lengths.pop()

  return kind


# ------------------------------------------------------------------- reading


def read(
  fields: Sequence[Field], config: Mapping[str, Any], where: str
) -> tuple[dict[str, Any], Taken]:
  """(key -> value of every field, the defaults that were taken).

  Keys that are in no field are left alone.

  Args:
    fields: the table.
    config: the JSON object.
    where: the file, and the section in it, for errors.

  Raises:
    ConfigError: all keys that are missing, null, of a wrong type or out of
      range, in one message.
  """
  values, taken, wrong = {}, [], []
  for field in fields:
    try:
      value, by_default = _value(field, config)
    except ValueError as error:
      wrong.append(str(error))
      continue
    values[field.key] = value
    if by_default and field.told:
      taken.append((f"{field.key}={_json(field.default)}", field.source))
  if wrong:
    raise ConfigError(f"{where}: " + "; ".join(wrong) + ".")
  return values, tuple(taken)


def _value(field: Field, config: Mapping[str, Any]) -> tuple[Any, bool]:
  """(value, whether it is the default); raises ValueError with a clause."""
  raw, by_default = config.get(field.key, _ABSENT), False
  if raw is _ABSENT:
    if field.required:
      raise ValueError(
        f"{field.key} is missing, and no value is right for every model;"
        " write the one it was trained with"
      )
    raw, by_default = field.default, True
  if raw is None:
    if field.null is None:
      return None, by_default
    if field.null is _ABSENT:
      raise ValueError(
        f"{field.key} is null; write the value it was trained with"
      )
    raw = field.null
  try:
    return field.kind(raw), by_default
  except ValueError as error:
    raise ValueError(f"{field.key}={_short(raw)} must be {error}") from None


def told(taken: Taken, where: str) -> str:
  """The line that says which defaults were taken; empty if none was."""
  if not taken:
    return ""
  sources = dict.fromkeys(source for _, source in taken)
  lists = [
    ", ".join(text for text, own in taken if own == source) + f" ({source})"
    for source in sources
  ]
  return (
    f"{where} leaves out {len(taken)} of its keys, read as the reference"
    f" implementation does: {'; '.join(lists)}."
  )


def _json(value: Any) -> str:
  words = {True: "true", False: "false", None: "null"}
  if type(value) is bool or value is None:
    return words[value]
  return repr(value)


def _short(value: Any) -> str:
  """A value in an error, cut: what people send has no bounds."""
  shorter = reprlib.Repr()
  shorter.maxstring = shorter.maxother = shorter.maxlong = 60
  return shorter.repr(value)


# ---------------------------------------------------------------- the family


def identify(
  config: Mapping[str, Any],
  where: str,
  *,
  wanted: str,
  kinds: Mapping[str, str],
  classes: Mapping[str, str],
) -> str:
  """Which family a config is of, by every name that it gives itself.

  Args:
    config: the JSON object.
    where: the file, for errors.
    wanted: what was asked for, for errors, such as "a Qwen3 decoder".
    kinds: `model_type` -> family.
    classes: name in `architectures`, or `_class_name` -> family.

  Raises:
    ConfigError: another family, by its name; none at all; or two of them.
  """
  names = config.get("architectures")
  if names is not None and (
    type(names) is not list or not all(type(x) is str for x in names)
  ):
    raise ConfigError(
      f"{where}: architectures={_short(names)} must be a list of names of"
      f" classes, such as {list(classes)[:1]}."
    )
  said = [("architectures", name, classes) for name in names or ()]
  for key, table in (("model_type", kinds), ("_class_name", classes)):
    if config.get(key) is not None:
      said.append((key, config[key], table))
  for key, name, table in said:
    if type(name) is not str or name not in table:
      raise ConfigError(
        f"{where} is of another family: {key} says {_short(name)}, and"
        f" {wanted} says {_choices(table)}; give the folder of {wanted}."
      )
  found = sorted({table[name] for _, name, table in said})
  if len(found) > 1:
    text = ", ".join(f"{key} says {name!r}" for key, name, _ in said)
    raise ConfigError(
      f"{where} contradicts itself: {text}; get it again from where the"
      " weights came from."
    )
  if not found:
    key = "model_type" if kinds else "_class_name"
    raise ConfigError(
      f"{where} does not say which family it is of; a config.json of {wanted}"
      f" has {key}={_choices(kinds or classes)}."
    )
  return found[0]


def _choices(names: Mapping[str, str]) -> str:
  return " or ".join(repr(name) for name in names) or "nothing of the kind"


def refuse_quantised(config: Mapping[str, Any], where: str) -> None:
  """Raises ConfigError where a config says that the weights are quantised."""
  for key in ("quantization_config", "compression_config", "quantization"):
    found = config.get(key)
    if found is None:
      continue
    how = found.get("quant_method", "") if type(found) is dict else ""
    kind = f" by {_short(how)}" if how else ""
    raise ConfigError(
      f"{where}: the weights are quantised{kind} ({key}={_short(found)});"
      " get the release in bfloat16, or dequantise these and save them again:"
      " only dequantised weights are read."
    )


def sized(make: Callable[..., Any], where: str, **sizes: Any) -> Any:
  """`make(**sizes)`, with what it refuses as a ConfigError."""
  try:
    return make(**sizes)
  except ValueError as error:
    raise ConfigError(f"{where}: {error}") from error


def finite(value: Any) -> float:
  """Any finite number, as in a list of shifts."""
  if type(value) not in (int, float) or not math.isfinite(value):
    raise ValueError("a finite number")
  return float(value)
