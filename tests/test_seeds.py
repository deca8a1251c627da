"""Seeds have one range, and are looked at before any work."""

import argparse

import numpy as np
import pytest

from emma_jax import seeds
from emma_jax.build import config_file
from emma_jax.build.sections import ConfigError

pytestmark = pytest.mark.smoke


@pytest.mark.parametrize("seed", [0, 1, 2**31 - 1, np.int64(7), np.uint8(3)])
def test_whole_numbers_below_2_to_the_31st_are_seeds(seed):
  assert seeds.checked(seed) == int(seed) and type(seeds.checked(seed)) is int


@pytest.mark.parametrize(
  "seed", [-1, 2**31, 10**30, 1.0, float("nan"), "1", None, True]
)
def test_nothing_else_is(seed):
  with pytest.raises(ValueError, match=f"x={seed!r} .*0..2147483647"):
    seeds.checked(seed, "x")


@pytest.mark.parametrize("text", ["-1", "1e3", "nan", "2147483648", "", "true"])
def test_a_flag_takes_no_other(text):
  with pytest.raises(argparse.ArgumentTypeError, match="0..2147483647"):
    seeds.flag(text)
  assert seeds.flag("12") == 12


def test_every_seed_of_a_config_is_looked_at_when_it_is_read():
  def paths(section, path=""):
    for key, value in section.items():
      at = f"{path}.{key}".lstrip(".")
      if hasattr(value, "items"):
        yield from paths(value, at)
      elif key == "seed":
        yield at

  found = list(paths(config_file.load("tiny")))
  assert {"data.seed", "train.seed", "evaluate.seed"} <= set(found)
  for path in found:
    for wrong in ("-1", "2147483648"):
      with pytest.raises(ConfigError, match=f"config.{path}={wrong} must be"):
        config_file.load("tiny", {path: wrong})
