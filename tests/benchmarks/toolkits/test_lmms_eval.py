"""The model as lmms-eval asks it, on a stand-in for its base class."""

import io
import json
import os

from PIL import Image
import pytest

from emma_jax.benchmarks.records import BadRun
from emma_jax.benchmarks.toolkits import lmms_eval, lmms_requests, replies
from emma_jax.benchmarks.toolkits.asking import error_text
from tests.benchmarks import toy
from tests.benchmarks.toolkits.stubs import Instance, adapter

DOCS = [{"image": toy.png(n), "answer": "red"} for n in range(6)]
DOCS[4] = {"image": None, "answer": "red"}


class Broken:
  """What a task shows where Pillow gave a picture of no kind."""

  def convert(self, mode: str) -> Image.Image:
    return Image.new("RGB", (1, 400))  # too thin for any row


def visuals(doc) -> list:
  if doc["image"] is None:
    return [Broken()]
  return [Image.open(io.BytesIO(doc["image"]))]


def request(doc: int, task: str = "chartqa", text: str = "", **options):
  text = text or toy.item(doc % 2).question
  options = {"max_new_tokens": 6, "until": ["\n\n"]} | options
  return Instance((text, options, visuals, doc, task, "test"))


@pytest.fixture
def model(monkeypatch, tmp_path):
  """Makes a model of lmms-eval with the small session."""
  made = adapter(monkeypatch)

  def make(**options):
    options = dict(session=toy.model().session, steps=2) | options
    one = made.EmmaJax(media=str(tmp_path / "media"), **options)
    one.task_dict = {
      task: {"test": DOCS}
      for task in ("chartqa", "gedit_bench", "imgedit", "cot")
    }
    return one

  return make


def test_replies_come_in_order_whatever_the_batch(model):
  requests = [request(n) for n in (3, 0, 1, 2)]
  requests += [request(0, temperature=2.0, do_sample=True)] * 2
  expected = model(batch_size=4).generate_until(requests)
  assert expected[4] != expected[5]  # repeats of one document
  assert model(batch_size="1").generate_until(requests) == expected
  alone = [model().generate_until([r])[0] for r in requests[:4]]
  assert alone == expected[:4]


def test_an_answer_is_the_sessions_own(model):
  session, text = toy.model().session, toy.item(1).question
  ((said,),) = session.ask([[toy.png(1)]], [[text]], max_tokens=6)
  assert model().generate_until([request(1)]) == [said]
  marked = request(1, text=f"<image 1>{text}")
  assert model().generate_until([marked]) == [said]
  ((short,),) = session.ask([[toy.png(1)]], [[text]], max_tokens=2)
  assert model(max_new_tokens=2).generate_until([request(1)]) == [short]


def test_a_failure_is_an_errors_text_and_never_a_picture(model, tmp_path):
  one = model()
  marks = request(0, text="<image> or <image>?")
  requests = [marks, request(1), request(4, "gedit_bench")]
  bad, good, drawn = one.generate_until(requests)
  assert bad == drawn == error_text("unreadable")
  assert [good] == model().generate_until([request(1)])
  assert one.asker.failures.total() == 2
  assert not (tmp_path / "media").exists()


def test_edits_are_paths_of_pictures_in_their_sources_size(model):
  requests = [request(0, "gedit_bench"), request(1), request(1, "imgedit")]
  found = model().generate_until(requests)
  assert found[1] == model().generate_until([request(1)])[0]
  for text in (found[0], found[2]):
    given = json.loads(text)
    assert given["text"] == "" and set(given) == {"text", "images"}
    (path,) = given["images"]
    assert os.path.isabs(path)
    with Image.open(path) as picture:
      assert picture.size == (64, 64)
  assert model().generate_until(requests) == found
  as_text = model(mode="text").generate_until(requests[:1])
  assert as_text == model().generate_until([request(0)])


def test_visual_thoughts_draw_and_ask_with_both_pictures(model, tmp_path):
  question = toy.item(1).question
  tagged = f"[GEN_PROMPT] mark it [/GEN_PROMPT][QUESTION]{question}[/QUESTION]"
  asked = [request(n, "cot", tagged, visual_cot=True) for n in (1, 4)]
  said, failed = model().generate_visual_cot(asked)
  assert failed == error_text("unreadable")
  (name,) = os.listdir(tmp_path / "media")
  aid = (tmp_path / "media" / name).read_bytes()
  session = toy.model().session
  ((expected,),) = session.ask([[toy.png(1), aid]], [[question]], max_tokens=6)
  assert said == expected
  with pytest.raises(ValueError, match=r"\[GEN_PROMPT\]"):
    model().generate_visual_cot([request(1)])


def test_options_are_compared_by_their_loss(model):
  """The lowest is what lmms-eval takes (`np.argmin`)."""
  session, text = toy.model().session, toy.item(1).question
  one = model()
  options = ["red", "blue circle", "7"]
  asked = [
    Instance((text, f" {o}", visuals, 1, "chartqa", "test")) for o in options
  ]
  losses = [found.text[0] for found in one.loglikelihood(asked)]
  assert all(loss > 0 for loss in losses) and len(set(losses)) == 3
  from emma_jax.benchmarks.toolkits import likelihood

  found = likelihood.of_answer(session, [toy.png(1)], text, "blue circle")
  assert losses[1] == -found.log / found.tokens
  target = Instance(
    (text, lambda doc: doc["answer"], visuals, 1, "chartqa", "test")
  )
  (again,) = one.loglikelihood([target])
  assert again.text[0] == losses[0]
  with pytest.raises(NotImplementedError, match="acc_mutual_info"):
    one.loglikelihood([Instance(("", "red"))])


def test_what_is_not_done_says_so(model, monkeypatch):
  with pytest.raises(NotImplementedError, match="first question"):
    model().generate_until_multi_round([])
  with pytest.raises(NotImplementedError, match="num_beams=3"):
    model().generate_until([request(0, num_beams=3)])
  with pytest.raises(TypeError, match="no video"):
    lmms_requests.picture(object())
  with pytest.raises(ValueError, match="mode='draw'"):
    model(mode="draw")
  monkeypatch.setenv("WORLD_SIZE", "2")
  with pytest.raises(ValueError, match="several processes"):
    model()


def test_made_from_the_command_lines_arguments(monkeypatch, tmp_path):
  made = adapter(monkeypatch)
  replies.write(
    str(tmp_path), "chartqa", [("how many?", "4"), ("what?", "red")]
  )
  more = {"batch_size": "1", "max_batch_size": None, "device": None}
  one = made.EmmaJax.create_from_arg_string(f"replies={tmp_path}", more)
  asked = [request(1, text="What?\nBriefly."), request(0, text="how many?")]
  assert one.generate_until(asked) == ["red", "4"]
  assert one.batch_size == 1
  with pytest.raises(BadRun, match=r"answers 'what\?', but"):
    one.generate_until([request(1, text="how many?")])
  with pytest.raises(BadRun, match="no answer to document 2; it has 2"):
    one.generate_until([request(2)])
  with pytest.raises(BadRun, match=r"no imgedit.jsonl, only chartqa.jsonl"):
    one._replies.find("imgedit", 0, "")
  with pytest.raises(ValueError, match="texts alone"):
    one.generate_visual_cot([])
  with pytest.raises(ValueError, match="checkpoint=NAME"):
    made.EmmaJax()
  with pytest.raises(BadRun, match="--to lmms"):
    made.EmmaJax(replies=str(tmp_path / "none"))


def test_the_entry_point_names_the_class(monkeypatch):
  made = adapter(monkeypatch)
  found = made.manifest()
  assert found.model_id == "emma_jax"
  assert found.simple_class_path == f"{made.__name__}.EmmaJax"


@pytest.mark.skipif(lmms_eval.INSTALLED, reason="lmms-eval is installed")
def test_without_lmms_eval_there_is_no_model():
  with pytest.raises(ImportError, match="pip install 'lmms-eval"):
    lmms_eval.EmmaJax()
