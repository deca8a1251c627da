"""The stand-ins are what the toolkits have, where those are installed."""

import inspect
import types

import pytest

from tests.benchmarks.toolkits import stubs

NEEDS = "needs {}, in an environment of its own"


def same_methods(stub: type, real: type) -> None:
  for name, method in vars(stub).items():
    if name.startswith("_abc") or not callable(getattr(stub, name)):
      continue
    if name.startswith("__") and name != "__init__":
      continue
    wanted = stubs.parameters(getattr(stub, name))
    assert wanted == stubs.parameters(getattr(real, name)), name
    assert isinstance(vars(real)[name], type(method)), name


def test_lmms_evals_base():
  module = pytest.importorskip(
    "lmms_eval.api.model", reason=NEEDS.format("lmms-eval")
  )
  same_methods(stubs.lmms, module.lmms)
  assert module.lmms.__abstractmethods__ == stubs.lmms.__abstractmethods__
  assert module.lmms.is_simple is True
  from lmms_eval.models.registry_v2 import ModelManifest

  real = stubs.parameters(ModelManifest)
  assert real == stubs.parameters(stubs.ModelManifest)


def test_lmms_evals_requests():
  """Their order, which `lmms_requests` counts on."""
  module = pytest.importorskip(
    "lmms_eval.api.task", reason=NEEDS.format("lmms-eval")
  )
  task = object.__new__(module.ConfigurableTask)
  task._config = types.SimpleNamespace(
    generation_kwargs={"max_new_tokens": 6}, task="t"
  )
  about = {"task": "t", "doc_id": 3, "repeats": 1, "split": "test"}
  for kind in ("generate_until", "generate_visual_cot"):
    task.OUTPUT_TYPE = kind
    made = task.construct_requests(3, "ctx", metadata=about)
    context, options, to_visual, doc_id, name, split = made.args
    assert (context, options) == ("ctx", {"max_new_tokens": 6})
    assert to_visual == task.doc_to_visual
    assert (doc_id, name, split) == (3, "t", "test")
  task.OUTPUT_TYPE = "loglikelihood"
  made = task.construct_requests(3, "ctx", metadata=about)
  assert made.args[:3] == ("ctx", task.doc_to_target, task.doc_to_visual)
  # A pair is kept as it is within a result alone.
  from lmms_eval.api.instance import GenerationResult, unwrap_generation_output

  pair = GenerationResult(text=(1.5, True))
  assert unwrap_generation_output(pair)[0] == (1.5, True)
  # Of options the lowest number wins: they are losses.
  assert "np.argmin(lls)" in inspect.getsource(task.process_results)


def test_lmms_eval_finds_the_model():
  pytest.importorskip("lmms_eval", reason=NEEDS.format("lmms-eval"))
  import lmms_eval.models

  from emma_jax.benchmarks.toolkits import lmms_eval as ours

  found = lmms_eval.models.get_model("emma_jax")
  assert found.__name__ == ours.EmmaJax.__name__


def test_vlmevalkits_base():
  module = pytest.importorskip(
    "vlmeval.vlm.base", reason=NEEDS.format("VLMEvalKit")
  )
  same_methods(stubs.BaseModel, module.BaseModel)
  from vlmeval.config import supported_VLM

  from emma_jax.benchmarks.toolkits import vlmevalkit

  vlmevalkit.register("emma", checkpoint="reference")
  assert issubclass(supported_VLM["emma"].func, module.BaseModel)
