"""Exit codes: one table, and what commands and supervisors make of it."""

import pathlib
import re

import pytest

from emma_jax import exits
from emma_jax.benchmarks.records import BadRun, BeingWritten, Unwritable
from emma_jax.checkpoints.integrity import CheckpointDamaged, CheckpointError
from emma_jax.checkpoints.locate import NoWeights
from emma_jax.checkpoints.weight_files import WeightsCorrupt
from emma_jax.cli import common
from emma_jax.data.loading.batch_stats import TooManyBadRecords
from emma_jax.exits import Exit
from emma_jax.judge.base import JudgeError, OutOfBudget
from emma_jax.locks import InUse
from emma_jax.sampling.record_latents import EncodedElsewhere
from emma_jax.storage import StorageError, Vanished


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


def test_the_pages_table_is_the_table():
  rows = lambda text: [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in text.splitlines()
    if re.match(r"\| \d+ +\| [A-Z_]+ +\|", line)
  ]
  page = pathlib.Path(__file__).parents[1] / "docs/pages/exit_codes.md"
  assert rows(page.read_text()) == rows(exits.__doc__)


# What has a code of its own -> of which errors; all others' mistakes are 2.
OWN = {
  Exit.DATA: (CheckpointDamaged, WeightsCorrupt, TooManyBadRecords),
  Exit.MISSING: (Vanished,),
  Exit.UNREACHABLE: (JudgeError,),
  Exit.IN_USE: (InUse, BeingWritten, EncodedElsewhere),
  Exit.STORAGE: (StorageError, Unwritable),
  Exit.MISTAKE: (OutOfBudget, CheckpointError, NoWeights),
}


@pytest.mark.parametrize(
  "kind, code", [(kind, code) for code, kinds in OWN.items() for kind in kinds]
)
def test_errors_have_the_code_of_what_they_mean(kind, code, capsys):
  """In every command, and where a command says it in words of its own."""

  def fail(argv):
    raise kind("so")

  def wrapped(argv):
    try:
      raise kind("so")
    except kind as error:
      raise common.UserError("in short") from error

  mistakes = (ValueError, CheckpointError, BadRun, OSError)
  assert common.run(fail, [], mistakes) == code
  assert common.run(wrapped, [], mistakes) == code
  assert capsys.readouterr().err == "error: so\nerror: in short\n"


def test_the_nearest_kind_of_error_has_the_code(capsys):
  class Worse(common.UserError):
    exit_code = Exit.STORAGE

  def fail(argv):
    raise (Worse if argv else common.UserError)("so")

  assert common.run(fail, []) == Exit.MISTAKE
  assert common.run(fail, ["x"]) == Exit.STORAGE
  assert capsys.readouterr().err == "error: so\n" * 2


def test_a_cause_without_a_code_leaves_the_errors_own(capsys):
  """As where a conversion says in its own words that its input is broken."""

  def fail(argv):
    try:
      raise RuntimeError("of no kind that has a code")
    except RuntimeError as error:
      raise common.DataError("so") from error

  assert common.run(fail, []) == Exit.DATA
  assert capsys.readouterr().err == "error: so\n"
