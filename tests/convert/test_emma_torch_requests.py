"""What the exported code is shown, and what it refuses: as sampling here.

Texts to ids and back, pictures to pixels, marks of pictures, results that are
no numbers. No program of ours is compiled. Skipped without torch.
"""

import dataclasses
import io
import json
import re

import numpy as np
from PIL import Image
import pytest

from emma_jax.build import sections
from emma_jax.build import session as build_session
from emma_jax.checkpoints.renamed_keys import ADDED
from emma_jax.convert import emma as convert
from emma_jax.data.pictures import images
from emma_jax.data.text.tokenizer import QwenTokenizer, TinyTokenizer
from emma_jax.exits import Exit
from emma_jax.sampling import image
from emma_jax.sampling.context import SampleError
from emma_jax.sampling.fitting import Fitting
from tests import tiny
from tests.convert.exported import SHOWN, config, save
from tests.data import qwen
from tests.goldens import emma_torch as golden

pytest.importorskip("torch")
TEXTS = (
  "",
  "user\na smiling face, naïve 表情 🙂 <image> what is this? 背景",
  "<think>\n\n</think> <tool_call>x</tool_call> <|fim_prefix|>a<|im_end|>",
  "<|vision_start|><|image_pad|><|vision_end|><|endoftext|><|im_start|>",
  "e\u0301 \ud83d\ude42 lone \ud83d  spaces \t\r\n\n end ",
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  c = config()
  c["sample"] = c["sample"] | {"max_tokens": 4, "steps": 2}
  out = tmp_path_factory.mktemp("exported") / "out"
  save(out, c, tiny.params())
  return out


@pytest.fixture(scope="module")
def module(folder):
  return golden.imported(folder)


@pytest.fixture
def model(module, folder):
  return module.Emma.load(folder)


# -------------------------------------------------------------------- texts


def qwen_tokenizer(kind: str, tmp_path) -> QwenTokenizer:
  """Of a small vocabulary in a file of that kind, or Qwen3's own."""
  pytest.importorskip("tokenizers")
  if kind == "published":
    return QwenTokenizer(qwen.published("tokenizer.json"))
  small = qwen.small()
  return QwenTokenizer(qwen.write(tmp_path, kind), len(small.tokens))


@pytest.mark.parametrize(
  "kind", ["tokenizer.json", "vocab.json", "qwen.tiktoken", "published"]
)
def test_qwen3s_vocabulary_reads_the_same_in_any_file(kind, module, tmp_path):
  ours = qwen_tokenizer(kind, tmp_path)
  file = tmp_path / "written.json"
  file.write_bytes(convert._tokenizer_file(ours))
  assert QwenTokenizer(file, ours.special["<|endoftext|>"]) == ours
  same_texts(module.Tokenizer(file), ours)


def test_the_worlds_vocabulary_reads_the_same(model):
  same_texts(model.tokenizer, TinyTokenizer())


def same_texts(theirs, ours):
  for text in TEXTS:
    ids = ours.encode(text)
    assert theirs.encode(text) == ids
    # What is typed is text: no single id, whatever it spells.
    assert not set(ids) & set(ours.special.values())
    assert theirs.decode(ids) == ours.decode(ids)
  for name, i in ours.special.items():
    assert theirs.special(name) == i
  rng = np.random.default_rng(0)
  for length in (1, 2, 5, 30) * 20:  # whatever a model may say
    ids = rng.choice(list(ours.answer_ids), length).tolist()
    ids += rng.choice(list(ours.special.values()), 2).tolist()
    rng.shuffle(ids)
    assert theirs.decode(ids) == ours.decode(ids), ids


def test_an_answer_is_text_alone(model):
  import torch

  ours = TinyTokenizer()
  assert model.answer_ids.tolist() == sorted(ours.answer_ids)
  head = model.w.llm.lm_head
  wanted = ours.encode("red")[0]
  head.weight = torch.zeros_like(head.weight)
  head.weight[ours.special["<|image_pad|>"]] = 2  # the likeliest of all
  head.weight[wanted] = 1
  assert model.likeliest(torch.ones(head.weight.shape[1])) == wanted


def test_pictures_stand_at_their_marks(module):
  placed = module.chat.placed
  a, b = ("und", 1), ("und", 2)
  assert placed("what?", [a, b]) == [a, b, "what?"]
  assert placed("x\n<image>\ny <image>", [a, b]) == ["x", a, "y ", b, ""]
  for question, shown in (("<image>", []), ("<image><image>", [a])):
    with pytest.raises(ValueError, match="marks for . pictures"):
      placed(question, shown)


# ----------------------------------------------------------------- pictures

SIZES = [(32, 64), (50, 60), (100, 60), (64, 64), (33, 500), (700, 40), (9, 7)]
BUCKETS = [[64, 64], [96, 64], [64, 96], [32, 96]]
TRAINED = {"stages": {"a": {"und_patches": 64}}}  # at native sizes


@pytest.mark.parametrize("fit", ["cover", "pad", "pad_learned"])
@pytest.mark.parametrize(
  "data, stages",
  [
    ({}, {}),
    ({"buckets": BUCKETS}, {}),
    ({"native": True, "min_tokens": 2, "max_tokens": 6}, {}),
    ({"native": True, "max_tokens": 6, "buckets": BUCKETS}, TRAINED),
    ({"native": True, "max_tokens": 6}, TRAINED),
  ],
)
def test_pictures_are_framed_alike(fit, data, stages, module):
  """Of questions, of edits (the further ones as the first), to draw."""
  c = config() | stages
  c["data"] = c["data"] | {"fit": fit, "max_crop": 0.6} | data
  framing = build_session.framing(c)
  theirs = sections.plain(dataclasses.asdict(framing))
  side = (c["data"]["height"], c["data"]["width"])
  ours = Fitting(framing=framing, row=Row(*side), max_pixels=10**6)
  rng = np.random.default_rng(0)
  pictures = [rng.integers(0, 256, (*s, 3), np.uint8) for s in SIZES]
  shown, refused = module.pictures, 0
  for picture in pictures:
    for others in ([], [pictures[1]]):
      bucket = None
      (first, *more) = ours.fit_all([[picture, *others]])[0]
      for want, one in zip((first, *more), (picture, *others)):
        made, _, _ = shown.fit(one, theirs, "und", bucket)
        np.testing.assert_array_equal(made, want)
        bucket = bucket or tuple(made.shape[:2])
    try:
      (want, further) = ours.fit_sources([[picture, pictures[1]]])[0]
    except images.BadRecord:
      refused += 1
      with pytest.raises(ValueError, match="would lose"):
        bucket = tuple(shown.fit(picture, theirs, "ref")[0].shape[:2])
        shown.fit(pictures[1], theirs, "ref", bucket)
      continue
    made, content, original = shown.fit(picture, theirs, "ref")
    np.testing.assert_array_equal(made, want.pixels_YXC)
    assert (content, original) == (want.content_size, want.original_size)
    _, size = ours.edit_sizes(want)
    rule = theirs["generation"]
    assert shown.result_size(rule, content, tuple(made.shape[:2])) == size
    made, _, _ = shown.fit(pictures[1], theirs, "ref", tuple(made.shape[:2]))
    np.testing.assert_array_equal(made, further.pixels_YXC)
    y, x = picture.shape[:2]
    assert shown.drawn_size(y, x, theirs) == ours.drawn_size(y, x)
  assert refused < len(SIZES) - 2


class Row:
  """Of a layout, what fitting looks at."""

  def __init__(self, height: int, width: int):
    self.height, self.width = height, width


@pytest.mark.parametrize(
  "mode", ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr"]
)
def test_pictures_of_all_modes_look_alike(mode, module, tmp_path):
  rng = np.random.default_rng(1)
  image = Image.fromarray(rng.integers(0, 256, (8, 9, 4), np.uint8))
  image = image.convert("RGB").convert(mode) if mode != "RGBA" else image
  saved = 0
  for kind in ("PNG", "TIFF", "GIF", "JPEG"):
    file, data = tmp_path / f"x.{kind}", io.BytesIO()
    try:
      image.save(data, kind)
    except (OSError, ValueError):  # a format without this mode
      continue
    file.write_bytes(data.getvalue())
    try:
      want = images.load_picture(str(file))
      found = np.array(module.pictures.upright(file))
    except (images.BadRecord, OSError):  # Pillow reads not all that it writes
      continue
    np.testing.assert_array_equal(found, want, err_msg=f"{mode} in {kind}")
    saved += 1
  assert saved


# --------------------------------------------------------------- not finite


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_not_finite_is_no_picture_and_no_answer(value, module, model):
  picture = np.zeros((32, 64, 3), np.uint8)
  model.w.llm.norm_gen.weight[0] = value
  model.w.llm.norm_und.weight[0] = value
  for call in (
    lambda: model.draw("red", steps=1),
    lambda: model.edit(picture, "do", steps=1),
    lambda: model.ask(picture, "what?", max_tokens=1),
  ):
    with pytest.raises(module.NotFinite, match="not finite.*float32"):
      call()


def test_a_decoder_that_overflows_makes_no_picture(module, model):
  model.w.autoencoder.decoder.conv_in.weight.fill_(float("inf"))
  with pytest.raises(module.NotFinite, match="A picture"):
    model.draw("red", steps=1)


@pytest.mark.parametrize(
  "call",
  [
    lambda m: m.draw("red", steps=0),
    lambda m: m.draw("red", text_guidance=float("nan")),
    lambda m: m.edit(np.zeros((32, 64, 3), np.uint8), "do", shift=np.inf),
    lambda m: m.ask([], "what?", max_tokens=0),
    lambda m: m.ask([], "<image> what?"),
    lambda m: m.ask([], ["what?", "<image> why?"], max_tokens=1),
  ],
)
def test_a_request_that_cannot_be_is_refused(call, model):
  with pytest.raises(ValueError, match="must be positive|finite|marks"):
    call(model)


@pytest.mark.parametrize("variant", SHOWN)
def test_a_request_is_as_long_as_in_sampling(variant, tmp_path):
  """Both refuse the same requests, with the same number of tokens."""
  c = config(variant)
  c["sample"] = c["sample"] | {"max_context": 1}
  out = tmp_path / variant
  save(out, c, tiny.params(variant))
  module = golden.imported(out)
  theirs, ours = module.Emma.load(out), build_session.requests(c)
  shown = [np.zeros((40, 70, 3), np.uint8), np.zeros((64, 64, 3), np.uint8)]
  asked = ["<image> a <image> red star? 红", "why?", "and then?"]
  (fitted,) = ours.fit_all([shown])
  sample = ours.question(0, fitted, asked)
  largest = dataclasses.replace(ours, max_context=1 << 20)
  row = largest.layout("", [sample], ours.size_of(sample))
  tokens = row.row_cost(sample)["und_tokens"]
  tokens += sum(ours.further_tokens(asked))
  with pytest.raises(ValueError, match=f"conversation takes {tokens} tokens"):
    theirs.ask(shown, asked, max_tokens=1)
  drawn = ours.drawings(["a red star"], image.drawing_contexts(2.0))[0]
  with pytest.raises(SampleError) as error:
    ours.layout("The request", drawn)
  with pytest.raises(ValueError, match=re.escape(str(error.value))):
    theirs.draw("a red star", steps=1)
  sources = ours.fit_sources([shown])
  contexts = image.editing_contexts(2.0, 1.5)
  edited = ours.edits(sources, ["make it blue"], contexts, [0])[0]
  with pytest.raises(SampleError) as error:
    ours.layout("The request", edited)
  with pytest.raises(ValueError, match=re.escape(str(error.value))):
    theirs.edit(shown, "make it blue", steps=1)
  with pytest.raises(ValueError, match="max_tokens=2 is more than 1"):
    theirs.ask([], "why?", max_tokens=2)
  with pytest.raises(ValueError, match="has 10.* characters"):
    theirs.draw("a" * 1_000_000)


def test_a_file_of_before_has_the_bound_of_that_time(tmp_path):
  save(tmp_path / "out", config(), tiny.params())
  file = tmp_path / "out" / "config.json"
  about = json.loads(file.read_text())
  del about["config"]["sample"]["max_context"]
  file.write_text(json.dumps(about))
  model = golden.imported(tmp_path / "out").Emma.load(tmp_path / "out")
  assert model.max_context == ADDED["sample.max_context"]


def test_the_command_ends_with_its_codes(module, folder, monkeypatch, capsys):
  command = golden.imported(folder, ".__main__")

  def run(*arguments: str) -> int:
    monkeypatch.setattr("sys.argv", ["emma_torch", *arguments])
    return command.main()

  assert run("ask", "what?") == Exit.DONE
  assert run("ask", "what?", "--image", "nowhere.png") == Exit.MISTAKE
  assert "nowhere.png" in capsys.readouterr().err
  load = command.Emma.load

  def broken(path):
    model = load(path)
    model.w.llm.norm_und.weight.fill_(float("nan"))
    return model

  monkeypatch.setattr(command.Emma, "load", broken)
  assert run("ask", "what?") == Exit.NOT_FINITE
  assert "not finite" in capsys.readouterr().err
