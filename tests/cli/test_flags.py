"""Every command's flags are the ones that people's scripts name."""

import argparse
from collections.abc import Iterator
import pathlib
import re
import tomllib

import pytest

from emma_jax import distributed, ranges
from emma_jax.cli import common
from tests.goldens import cli as goldens
from tests.goldens import store


@pytest.mark.parametrize("name", [*goldens.COMMANDS, "supervise"])
def test_flags_and_defaults_are_as_they_were(name, monkeypatch):
  monkeypatch.delenv("EMMA_STOPPED_CODE", raising=False)
  parser = goldens.parsers()[name]
  store.check("cli", name, goldens.flags(parser, ""), store.EXACT)


def actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
  for action in parser._actions:
    if isinstance(action, argparse._SubParsersAction):
      for sub in action.choices.values():
        yield from actions(sub)
    else:
      yield action


def test_no_flag_takes_a_number_that_is_none(capsys):
  """By enumeration: a flag's number is of a range, never any float."""
  found = 0
  for name, parser in goldens.parsers().items():
    for action in actions(parser):
      flag = f"{name} {action.option_strings}"
      kind = getattr(action.type, "__self__", action.type)
      assert kind is not float, f"{flag}: give it a range of emma_jax.ranges"
      if not isinstance(kind, ranges.Range):
        continue
      found += 1
      if action.default is not None:
        assert action.default in kind, flag
      for text in ("nan", "inf", "-inf", "NAN", "1e999"):
        with pytest.raises(argparse.ArgumentTypeError, match="is not a"):
          action.type(text)
  assert found > 20


def test_no_folder_of_results_is_an_empty_name():
  """By enumeration: --workdir "$RUN" of a script that has not set it."""
  found = 0
  for name, parser in goldens.parsers().items():
    for action in actions(parser):
      named = {"--out", "--workdir", "--dest"} & set(action.option_strings)
      assert action.type is not pathlib.Path, f"{name} {action.dest}"
      if not named or action.nargs == 0:
        continue
      found += 1
      with pytest.raises(argparse.ArgumentTypeError, match="it is empty"):
        action.type("")
      assert str(action.type("a b")) == "a b"
  assert found > 15


@pytest.mark.parametrize(
  "arguments",
  [
    ["ask", "--question", "Why?", "--temperature", "nan"],
    ["ask", "--question", "Why?", "--top-p", "0"],
    ["draw", "--prompt", "a", "--out", "a.png", "--guidance", "inf"],
    ["draw", "--prompt", "a", "--out", "a.png", "--shift", "-1"],
  ],
)
def test_a_sampler_names_the_flag_before_it_reads_weights(arguments, capsys):
  from emma_jax.cli import sample

  with pytest.raises(SystemExit) as error:
    sample.main(arguments)
  assert error.value.code == 2
  said = capsys.readouterr().err
  assert f"argument {arguments[-2]}: {arguments[-1]} is not a number" in said


def test_console_scripts_have_their_names(repo):
  """A name is what a command's help says, and `entry` of its module."""
  project = tomllib.loads((repo / "pyproject.toml").read_text())["project"]
  # Of developers, and verbs that have files of their own.
  others = ("pack", "train_status", "finetune")
  commands = [c for c in goldens.COMMANDS if c not in others]
  assert project["scripts"] == {
    f"emma-{c}": f"emma_jax.cli.{c}:entry" for c in commands
  }
  found = goldens.parsers()
  assert all(found[c].prog == f"emma-{c}" for c in commands)


def test_a_flag_in_a_help_is_one_that_exists():
  """Flags that descriptions show are the parser's own."""
  for name, parser in goldens.parsers().items():
    known = " ".join(goldens.flags(parser, ""))
    shown = re.findall(r"(?<![\w.-])--[a-z][a-z_-]*[a-z]", parser.description)
    foreign = {"--config", "--help"}
    if name == "supervise":  # the trainer's
      foreign |= {"--peer_seconds", "--workdir"}
    unknown = {f for f in shown if f not in known} - foreign
    assert not unknown, (name, unknown)

  def fails(error):
    def main(argv):
      raise error

    return main

  assert common.run(lambda argv: None, []) == 0
  assert common.run(lambda argv: 7, []) == 7
  assert common.run(fails(common.UserError("x")), []) == 2
  assert common.run(fails(KeyError("x")), [], (KeyError,)) == 2
  assert common.run(fails(KeyboardInterrupt()), []) == 130


@pytest.mark.parametrize(
  "code, joined, at_once",
  [
    (0, True, False),
    (75, True, False),
    (1, True, True),
    (2, True, True),
    (1, False, False),
  ],
)
def test_who_failed_among_several_ends_at_once(
  code, joined, at_once, monkeypatch
):
  """Others would wait for its farewell; after success it waits for them."""
  ended = []
  monkeypatch.setattr(distributed, "_joined", [1] if joined else [])
  monkeypatch.setattr("os._exit", ended.append)
  with pytest.raises(SystemExit) as error:
    distributed.leave(code)
  assert error.value.code == code
  assert ended == ([code] if at_once else [])
