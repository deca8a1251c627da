"""Every command tells, without more, what it does and what it can be asked."""

import argparse
from collections.abc import Iterator
import contextlib

import pytest

from emma_jax.cli import common
from tests.goldens import cli as goldens


def subcommands(
  name: str, parser: argparse.ArgumentParser
) -> Iterator[tuple[str, argparse.ArgumentParser, str]]:
  """(full name, parser, its line in the list) of all below a command."""
  for action in parser._actions:
    if isinstance(action, argparse._SubParsersAction):
      lines = {a.dest: a.help or "" for a in action._choices_actions}
      for below, sub in action.choices.items():
        yield f"{name} {below}", sub, lines.get(below, "")
        yield from subcommands(f"{name} {below}", sub)


def test_every_command_and_subcommand_has_a_description():
  found = 0
  for name, parser in goldens.parsers().items():
    assert len((parser.description or "").split()) > 5, name
    for full, sub, line in subcommands(name, parser):
      found += 1
      assert len((sub.description or "").split()) > 5, full
      assert len(line.split()) > 1, full
  assert found > 40


@pytest.mark.parametrize("name", goldens.COMMANDS)
def test_a_bare_command_lists_its_subcommands(name, capsys):
  """Or does its work, where it needs no argument."""
  parser = goldens.parsers()[name]
  needs = any(action.required for action in parser._actions)
  below = [full.split()[1] for full, *_ in subcommands(name, parser)]
  if name == "train":  # its parser has none; see `train.main`
    below = ["status"]
  assert needs or not below
  with contextlib.suppress(SystemExit):
    common.parse_arguments(parser, [])
    assert not needs
  shown = capsys.readouterr().err
  if needs:
    assert parser.description.split("\n")[0] in shown
    missing = [b for b in below if b not in shown.split()]
    assert not missing, f"{name} lists no {missing}"


def test_a_bare_command_is_a_mistake():
  with pytest.raises(SystemExit, match="2"):
    common.parse_arguments(goldens.parsers()["train"], [])
