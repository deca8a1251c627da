"""The names that configs give machines are those that the planner knows."""

import doctest

from configs import targets
from emma_jax.planner import chips, machines


def test_docstrings():
  assert doctest.testmod(machines).failed == 0


def test_every_target_of_the_configs_is_understood():
  for name, target in targets.TARGETS.items():
    found = machines.of_config(f"configs/emma_4b.py:stage1,{name}")
    assert found == (target.topology, target.mesh[0]), name
    again = machines.of_config(f"emma_4b:{target.topology}")
    assert again == (target.topology, 1)
    assert chips.topology(*found).chips


def test_other_words_are_no_machines():
  for name in ("emma_4b", "emma_4b:stage1", "tiny:shapes", "a:v5e-3", "a:v5e"):
    assert machines.of_config(name) is None, name
