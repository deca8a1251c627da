"""A knob has its value in configs/, and in no class or function besides."""

import argparse
import ast
from collections.abc import Iterator
import dataclasses
import importlib
import inspect
import pathlib
import types

import ml_collections
import pytest

from configs import defaults
from configs.data import chains
from emma_jax import build, flow, sharding
from emma_jax.build import chain as build_chain
from emma_jax.build import sections
from emma_jax.build.session import Source
from emma_jax.checkpoints.by_leaf import Keep
from emma_jax.data.batching.mixture import Phase
from emma_jax.data.batching.row_layout import Layout
from emma_jax.data.loading.held_out_batches import HeldOutBatches
from emma_jax.data.pictures import images
from emma_jax.evals.settings import EvalSettings
from emma_jax.models.dcae import DcaeConfig
from emma_jax.models.emma import Emma
from emma_jax.models.llm import LlmConfig
from emma_jax.models.siglip2 import SiglipConfig
from emma_jax.ranges import Range
from emma_jax.sampling.placement import Placement
from emma_jax.sampling.requests import Requests
from emma_jax.training.objectives import EmmaObjective
from tests.goldens import cli

FOLDER = pathlib.Path(build.__file__).parent

# Steps of data construction are made by commands' flags too, of any of which a
# chain's config gives some. Their defaults are the steps' own: a value is the
# same in the class, the flag and the config, see below.
BY_FLAGS = ("emma_jax.data.curation.", "emma_jax.data.ingest.")
# Those that a chain chooses otherwise than who calls a command.
CHOSEN = {
  "max_extra",  # words beside the wanted ones; a command takes any
  "missing",  # a command ends without an answer, a chain counts and goes on
  "sizes",  # a command draws one size of text picture
  "timeout",  # a command waits less for a reply
}
# Kind of a step -> its command, where that has another name.
NAMED = {
  "as_questions": "recaption",
  "check_edits": "edit-pairs",
  "label": "label-portrait",
  "propose_text_edits": "propose-edits",
}
# No knobs: who answers and is asked, and what he is told.
TOLD = {
  *("answer_tokens", "answers", "dataset", "face", "judge", "known_as"),
  *("minimum", "name", "ocr", "reversals", "rules"),
}
# Class -> fields that may have a default, as they are no knobs.
EXCEPTIONS = {
  # Flax's own, of every module.
  Emma: {"parent", "name"},
  # What it has made, and counted.
  HeldOutBatches: {"_made", "left_out"},
  # Where there is none: no mesh, no limit, no training that is known.
  Keep: {"dtypes", "on_devices", "shapes", "shardings"},
  Placement: {"mesh"},
  Range: {"above", "high", "low"},
  Requests: {"longest_row"},
  Source: {"meta"},
}


def made(module: types.ModuleType, source: str) -> set[type]:
  """Classes that a file calls, or has `sections.make` call."""
  found, tree = set(), ast.parse(source)
  module = types.SimpleNamespace(**vars(module) | imported(tree))
  for node in ast.walk(tree):
    if not isinstance(node, ast.Call):
      continue
    callee = named(module, node.func)
    if callee is sections.make:
      first = node.args[0]
      if isinstance(first, ast.Subscript):  # one of a table's
        table = named(module, first.value)
        assert isinstance(table, dict), ast.unparse(node)
        assert all(map(inspect.isclass, table.values()))
        found |= set(table.values())
        continue
      callee = named(module, first)
      assert inspect.isclass(callee), ast.unparse(node)
    if inspect.isclass(callee):
      found.add(callee)
  return found


def imported(tree: ast.Module) -> dict[str, object]:
  """What a file imports of the package, also within its functions."""
  out = {}
  for node in ast.walk(tree):
    if isinstance(node, ast.ImportFrom) and node.module.startswith("emma_jax"):
      above = importlib.import_module(node.module)
      for alias in node.names:
        if not hasattr(above, alias.name):
          importlib.import_module(f"{node.module}.{alias.name}")
        out[alias.asname or alias.name] = getattr(above, alias.name)
  return out


def named(module: types.SimpleNamespace, node: ast.expr) -> object:
  """What `a` or `a.b` is in a module; None for all else, and for locals."""
  if isinstance(node, ast.Name):
    return vars(module).get(node.id)
  if isinstance(node, ast.Attribute):
    return getattr(named(module, node.value), node.attr, None)
  return None


def all_made() -> set[type]:
  out = set()
  for path in FOLDER.glob("[!_]*.py"):
    module = importlib.import_module(f"emma_jax.build.{path.stem}")
    out |= made(module, path.read_text())
  return {cls for cls in out if dataclasses.is_dataclass(cls)}


def default_of(field: dataclasses.Field) -> object:
  """A field's default; MISSING without one."""
  if field.default_factory is not dataclasses.MISSING:
    return field.default_factory()
  return field.default


def all_of(value: object) -> Iterator[object]:
  """The dataclasses' instances that something is made of."""
  if dataclasses.is_dataclass(value):
    yield value
    value = tuple(getattr(value, f.name) for f in dataclasses.fields(value))
  if isinstance(value, tuple):
    for part in value:
      yield from all_of(part)


def every_step() -> ml_collections.ConfigDict:
  """A chain of one step of each kind, all keys as they are by default."""
  steps = {kind: chains.step(kind) for kind in chains.KINDS}
  steps["select"].count = 1  # none is refused
  return chains.chain("every", (), steps)


def with_default(cls: type) -> set[str]:
  """Names of a dataclass' fields that need not be given."""
  return {
    field.name
    for field in dataclasses.fields(cls)
    if default_of(field) is not dataclasses.MISSING
  }


@pytest.mark.smoke
def test_what_build_makes_has_no_default():
  found = all_made()
  # Made by name, by way of `make`, and by a module's attribute.
  some = {DcaeConfig, SiglipConfig, LlmConfig, Layout, Phase, EmmaObjective}
  assert some | {flow.FlowConfig, sharding.MeshConfig, Emma} <= found
  assert any(cls.__module__.startswith(BY_FLAGS) for cls in found)
  for cls in sorted(found, key=lambda cls: cls.__name__):
    if cls.__module__.startswith(BY_FLAGS):
      continue
    extra = with_default(cls) - EXCEPTIONS.get(cls, set())
    assert not extra, f"{cls.__name__} has defaults; write them into configs/."


def test_a_chain_and_the_steps_it_is_made_of_have_one_default():
  """All keys of configs/data/chains.py, and of the servers there."""
  chain = build_chain.chain(every_step(), "out", ["rows.jsonl"], 1, 1)
  assert len(chain.steps) == len(build_chain.BUILDERS)
  others = {
    field.name
    for step in chain.steps
    for one in all_of(step.maker)
    for field in dataclasses.fields(one)
    if default_of(field) is not dataclasses.MISSING
    and default_of(field) != getattr(one, field.name)
  }
  assert others == CHOSEN | TOLD


def test_a_chain_and_the_commands_have_one_default():
  """A flag has the value that the key of its name has in a step of that kind,
  in `servers` or in the chain itself."""
  config = every_step()
  commands = next(
    action.choices
    for action in cli.parsers()["data"]._actions
    if isinstance(action, argparse._SubParsersAction)
  )
  compared, wrong = set(), []
  for kind, section in config.steps.items():
    command = NAMED.get(kind, kind.replace("_", "-"))
    values = {**config, **config.servers.vlm, **section}
    for flag in commands[command]._actions:
      value = values.get(flag.dest)
      if flag.default and type(flag.default) is type(value):
        compared.add(flag.dest)
        if flag.default != value and flag.dest not in CHOSEN:
          wrong.append(f"{command} --{flag.dest}: {flag.default}, not {value}")
  assert not wrong, "\n".join(wrong)
  assert {"radius", "min_judge", "key_env", "rows_per_shard"} <= compared


def test_exceptions_are_alive():
  found = all_made()
  for cls, fields in EXCEPTIONS.items():
    assert cls in found and fields <= with_default(cls), cls.__name__


def test_a_default_would_be_found():
  @dataclasses.dataclass
  class Knob:
    given: int
    silent: int = 1
    made: list = dataclasses.field(default_factory=list)

  module = types.SimpleNamespace(
    Knob=Knob, make=sections.make, data=types.SimpleNamespace(Other=Phase)
  )
  source = "make(Knob, {}, 'data'); data.Other(); unknown(); unknown.of()"
  assert made(module, source) == {Knob, Phase}
  assert with_default(Knob) == {"silent", "made"}


def test_what_has_no_config_refuses_the_same_pictures():
  """Converters and checks of files, which take a limit of their own."""
  assert defaults.get_config().data.max_pixels == images.MAX_PIXELS


def test_scores_have_one_default():
  """Evaluation reads its own section; where the class has a default for files
  that are older than the key, it is that of the configs."""
  values = sections.plain(defaults.get_config().evaluate)
  for field in dataclasses.fields(EvalSettings):
    if field.default is not dataclasses.MISSING:
      assert sections.plain(field.default) == values[field.name], field.name
