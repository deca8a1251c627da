"""The model as VLMEvalKit asks it, and its launcher."""

import sys

import pytest

from emma_jax.benchmarks.toolkits import vlmevalkit
from emma_jax.benchmarks.toolkits.asking import error_text
from tests.benchmarks import toy
from tests.benchmarks.toolkits import stubs


@pytest.fixture
def toolkit(monkeypatch):
  """VLMEvalKit's table of models, on a stand-in."""
  table: dict = {}
  modules = stubs.module("vlmeval.vlm.base", BaseModel=stubs.BaseModel)
  modules |= stubs.module("vlmeval.config", supported_VLM=table)
  for name, module in modules.items():
    monkeypatch.setitem(sys.modules, name, module)
  return table


def message(tmp_path, *parts):
  out = []
  for n, part in enumerate(parts):
    if isinstance(part, bytes):
      (tmp_path / f"{n}.png").write_bytes(part)
      out.append({"type": "image", "value": str(tmp_path / f"{n}.png")})
    else:
      out.append({"type": "text", "value": part})
  return out


def test_an_answer_is_the_sessions_own(toolkit, tmp_path):
  session = toy.model().session
  vlmevalkit.register("emma", session=session, max_new_tokens=6)
  model = toolkit["emma"]()
  assert isinstance(model, stubs.BaseModel) and model.INTERLEAVE
  model.set_dump_image(None)
  text = toy.item(1).question
  asked = message(tmp_path, toy.png(1), text)
  ((said,),) = session.ask([[toy.png(1)]], [[text]], max_tokens=6)
  assert model.generate(message=asked, dataset="MMStar") == said
  assert not model.use_custom_prompt("MMStar")


def test_pictures_stand_where_the_message_has_them(tmp_path):
  asked = message(tmp_path, "Is ", toy.png(0), " left of ", toy.png(1), "?")
  assert vlmevalkit.text_and_pictures(asked) == (
    "Is <image> left of <image>?",
    [toy.png(0), toy.png(1)],
  )


def test_a_failure_is_an_errors_text(toolkit, tmp_path):
  model = vlmevalkit.model_class()(session=toy.model().session)
  asked = message(tmp_path, b"no picture", "red?")
  assert model.generate(asked) == error_text("unreadable")
  with pytest.raises(ValueError, match="'video'"):
    model.generate([{"type": "video", "value": "a.mp4"}])


def test_the_launcher_runs_run_py_with_its_arguments(
  toolkit, tmp_path, monkeypatch
):
  seen = tmp_path / "seen.txt"
  (tmp_path / "run.py").write_text(
    "import sys\n"
    "from vlmeval.config import supported_VLM\n"
    "assert __name__ == '__main__'\n"
    f"with open({str(seen)!r}, 'w') as file:\n"
    "  print(sys.argv[1:], supported_VLM['small'].keywords, file=file)\n"
  )
  monkeypatch.setattr(sys, "argv", ["before"])
  monkeypatch.setattr(sys, "path", list(sys.path))
  run = ["--checkpoint", "x", "--name", "small", "--run"]
  rest = ["--", "--data", "MMStar", "--model", "small", "--verbose"]
  vlmevalkit.main([*run, str(tmp_path / "run.py"), *rest])
  arguments = "['--data', 'MMStar', '--model', 'small', '--verbose']"
  options = "{'checkpoint': 'x', 'rows': 1, 'max_new_tokens': 0}"
  assert seen.read_text().strip() == f"{arguments} {options}"


def test_run_py_must_be_somewhere(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  with pytest.raises(FileNotFoundError, match="its checkout"):
    vlmevalkit.find_run("")
  (tmp_path / "run.py").write_text("")
  assert vlmevalkit.find_run("") == str(tmp_path / "run.py")
  with pytest.raises(FileNotFoundError, match=r"not at other.py"):
    vlmevalkit.find_run("other.py")
