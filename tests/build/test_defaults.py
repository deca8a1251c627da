"""A knob has its value in configs/, and in no class or function besides."""

import ast
import dataclasses
import importlib
import inspect
import pathlib
import types

import pytest

from configs import defaults
from emma_jax import build, flow, sharding
from emma_jax.build import sections
from emma_jax.data.batching.mixture import Phase
from emma_jax.data.batching.row_layout import Layout
from emma_jax.data.pictures import images
from emma_jax.evals.settings import EvalSettings
from emma_jax.models.dcae import Autoencoder, DcaeConfig
from emma_jax.models.emma import Emma
from emma_jax.models.llm import LlmConfig
from emma_jax.models.siglip2 import SiglipConfig
from emma_jax.training.objectives import EmmaObjective

FOLDER = pathlib.Path(build.__file__).parent

# Class -> fields that may have a default, as they are no knobs.
# Steps of data construction are made by commands' flags too, of any of which a
# chain's config gives some; what neither says is the step's own.
BY_FLAGS = ("emma_jax.data.curation.", "emma_jax.data.ingest.")
EXCEPTIONS = {
  # Flax's own, of every module.
  Emma: {"parent", "name"},
  Autoencoder: {"parent", "name"},
}


def made(module: types.ModuleType, source: str) -> set[type]:
  """Classes that a file calls, or has `sections.make` call."""
  found = set()
  for node in ast.walk(ast.parse(source)):
    if not isinstance(node, ast.Call):
      continue
    callee = named(module, node.func)
    if callee is sections.make:
      callee = named(module, node.args[0])
      assert inspect.isclass(callee), ast.unparse(node)
    if inspect.isclass(callee):
      found.add(callee)
  return found


def named(module: types.ModuleType, node: ast.expr) -> object:
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


def with_default(cls: type) -> set[str]:
  """Names of a dataclass' fields that need not be given."""
  none = dataclasses.MISSING
  return {
    field.name
    for field in dataclasses.fields(cls)
    if field.default is not none or field.default_factory is not none
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
