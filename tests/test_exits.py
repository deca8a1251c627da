"""Exit codes: one table, and what commands and supervisors make of it."""

import re

import pytest

from emma_jax import exits
from emma_jax.cli import common
from emma_jax.exits import Exit


@pytest.mark.smoke
def test_exit_codes_are_those_that_scripts_read():
  """Of sysexits.h, and what shells give to a kill and to Ctrl-C."""
  assert {code.name: int(code) for code in Exit} == {
    "DONE": 0,
    "FAULT": 1,
    "MISTAKE": 2,
    "DATA": 65,
    "MISSING": 66,
    "UNREACHABLE": 69,
    "GAVE_UP": 70,
    "MEMORY": 71,
    "IN_USE": 73,
    "STORAGE": 74,
    "STOPPED": 75,
    "NOT_FINITE": 76,
    "INTERRUPTED": 130,
    "KILLED": 137,
  }
  rows = re.findall(r"^\| (\d+) +\| (\w+) ", exits.__doc__, re.M)
  assert rows == [(str(int(code)), code.name) for code in Exit]


def test_the_nearest_kind_of_error_has_the_code(capsys):
  class Worse(common.UserError):
    pass

  def fail(argv):
    raise (Worse if argv else common.UserError)("so")

  codes = {Worse: Exit.STORAGE}
  assert common.run(fail, [], codes=codes) == Exit.MISTAKE
  assert common.run(fail, ["x"], codes=codes) == Exit.STORAGE
  assert capsys.readouterr().err == "error: so\n" * 2
