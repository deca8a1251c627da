"""Bases as the toolkits have them, without the toolkits.

`test_contracts.py` holds them against the real ones where those are installed.
"""

import abc
import dataclasses
import importlib.util
import inspect
import sys
import types
from typing import Any


class lmms(abc.ABC):  # noqa: N801  # lmms_eval.api.model of 0.7.3
  is_simple = True

  def __init__(self):
    self._rank, self._world_size = 0, 1
    self.task_dict = {}

  @abc.abstractmethod
  def loglikelihood(self, requests): ...

  @abc.abstractmethod
  def generate_until(self, requests): ...

  @abc.abstractmethod
  def generate_until_multi_round(self, requests): ...

  def generate_visual_cot(self, requests):
    raise NotImplementedError

  @classmethod
  def create_from_arg_string(cls, arg_string, additional_config=None):
    pairs = [pair.split("=") for pair in arg_string.split(",") if pair]
    more = {k: v for k, v in (additional_config or {}).items() if v is not None}
    return cls(**dict(pairs), **more)


@dataclasses.dataclass(frozen=True)
class ModelManifest:  # lmms_eval.models.registry_v2
  model_id: str
  simple_class_path: str | None = None
  chat_class_path: str | None = None
  aliases: tuple[str, ...] = ()


@dataclasses.dataclass
class GenerationResult:  # lmms_eval.api.instance
  text: Any
  token_counts: Any = None


class BaseModel:  # vlmeval.vlm.base of e8e78f05
  INTERLEAVE = False

  def __init__(self):
    self.dump_image_func = None

  def use_custom_prompt(self, dataset):
    return False

  def set_dump_image(self, dump_image_func):
    self.dump_image_func = dump_image_func

  def generate_inner(self, message, dataset=None):
    raise NotImplementedError

  def generate(self, message, dataset=None):
    return self.generate_inner(message, dataset)


def parameters(function: Any) -> list[str]:
  return list(inspect.signature(function).parameters)


def module(name: str, **content: Any) -> dict[str, types.ModuleType]:
  """A module and those above it, by name, for sys.modules."""
  found: dict[str, types.ModuleType] = {}
  for part in name.split("."):
    path = ".".join([*found][-1:] + [part])
    found[path] = types.ModuleType(path)
    found[path].__path__ = []  # type: ignore[attr-defined]
  vars(found[name]).update(content)
  return found


def lmms_modules() -> dict[str, types.ModuleType]:
  found = module("lmms_eval.api.model", lmms=lmms)
  more = module("lmms_eval.models.registry_v2", ModelManifest=ModelManifest)
  more |= module("lmms_eval.api.instance", GenerationResult=GenerationResult)
  return more | found


def adapter(monkeypatch: Any) -> Any:
  """The adapter to lmms-eval as it is where the stub is what is installed."""
  from emma_jax.benchmarks.toolkits import lmms_eval

  for name, stub in lmms_modules().items():
    monkeypatch.setitem(sys.modules, name, stub)
  spec = importlib.util.spec_from_file_location("adapter", lmms_eval.__file__)
  made = importlib.util.module_from_spec(spec)
  monkeypatch.setitem(sys.modules, "adapter", made)
  spec.loader.exec_module(made)
  return made


@dataclasses.dataclass
class Instance:
  """A request: what `construct_requests` makes."""

  args: tuple
