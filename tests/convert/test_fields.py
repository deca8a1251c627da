"""The reader of config.json: types, ranges, defaults and names."""

import pytest

from emma_jax.convert import fields
from emma_jax.convert.fields import ConfigError, Field

pytestmark = pytest.mark.smoke

FIELDS = (
  Field("width", fields.whole(1, 64)),
  Field("eps", fields.number(0, 1), default=1e-6, source="lib 1.0, C"),
  Field("bias", fields.flag, default=True, source="lib 1.0, C", told=False),
  Field("heads", fields.whole(1, 8), null=None),
)


def test_values_and_defaults_are_told_apart():
  values, taken = fields.read(FIELDS, {"width": 8, "heads": None, "x": 1}, "f")
  assert values == {"width": 8, "eps": 1e-6, "bias": True, "heads": None}
  assert taken == (("eps=1e-06", "lib 1.0, C"),)
  two = (*taken, ("gain=1", "lib 1.0, C"), ("bias=2", "other"))
  assert fields.told(two, "f") == (
    "f leaves out 3 of its keys, read as the reference implementation does:"
    " eps=1e-06, gain=1 (lib 1.0, C); bias=2 (other)."
  )
  assert fields.told((), "f") == ""


def test_every_mistake_is_in_one_message():
  with pytest.raises(ConfigError) as error:
    fields.read(FIELDS, {"width": True, "eps": "1", "bias": None}, "a/f")
  assert str(error.value) == (
    "a/f: width=True must be a whole number from 1 to 64; eps='1' must be a"
    " number above 0, at most 1; bias is null; write the value it was trained"
    " with; heads is missing, and no value is right for every model; write the"
    " one it was trained with."
  )


def test_what_is_shown_of_a_value_has_bounds():
  for value in ("x" * 10**6, list(range(10**6)), 10**4000):
    with pytest.raises(ConfigError) as error:
      fields.read(FIELDS, {"width": value, "heads": 1}, "f")
    assert len(str(error.value)) < 300


@pytest.mark.parametrize(
  "kind, good, bad",
  [
    (fields.whole(1, 3), [1, 3], [0, 4, 1.0, True, "1", None, [1]]),
    (fields.number(0, 3), [1, 0.5, 3], [0, -1, 3.1, True, "1", 10**400]),
    (fields.flag, [True, False], [0, 1, "true", None, []]),
    (fields.word, ["", "x"], [1, None, ["x"]]),
    (fields.section, [{}, {"a": 1}], [[], "x", 1]),
    (fields.finite, [-1, 0.5], ["1", True, float("inf"), float("nan")]),
    (fields.each(fields.flag, 1, 2), [[True]], [[], [True] * 3, True, [1]]),
    (fields.square(fields.whole(1, 9)), [3, [3, 3]], [[3], [3, 4], "3", 0]),
    (fields.only(False, remedy="r"), [False], [0, 0.0, True, "false", None]),
    (fields.only(1.0, remedy="r"), [1, 1.0], [True, "1.0", 2]),
  ],
)
def test_kinds(kind, good, bad):
  for value in good:
    kind(value)
  for value in bad:
    with pytest.raises(ValueError):
      kind(value)
  with pytest.raises(ValueError):
    fields.number(0, 3)(float("nan"))
