"""Rendered words: their ink is where the boxes say, and no glyph is missing."""

import io
import itertools
import json
import shutil

import numpy as np
from PIL import Image, ImageChops
import pytest

from emma_jax.data.curation import fonts, text_pictures, words
from emma_jax.data.ingest.job import ConversionError
from tests.data import made
from tests.data.curation import common


def _languages() -> list[str]:
  """Those that this machine has fonts for."""
  out = []
  for language in fonts.LANGUAGES:
    try:
      fonts.find(language)
      out.append(language)
    except ConversionError:
      pass
  return out


LANGUAGES = _languages()
needs_fonts = pytest.mark.skipif(
  not LANGUAGES, reason="no fonts; install fonts-dejavu-core"
)


def _maker(**more) -> text_pictures.TextPictures:
  return text_pictures.TextPictures(
    **{
      "base": common.recipe(),
      "languages": tuple(LANGUAGES),
      "sizes": ((192, 256), (256, 192)),
      "max_texts": 2,
    }
    | more
  )


@needs_fonts
def test_a_set_is_a_function_of_seed_and_index(tmp_path):
  base = common.recipe(dataset="words")
  base = type(base)(**{**vars(base), "form": "index"})
  one, card = common.run(_maker(base=base), "range:7", out=tmp_path / "one")
  two, _ = common.run(
    _maker(base=base),
    "range:7",
    out=tmp_path / "two",
    workers=2,
    rows_per_shard=2,
  )
  strip = lambda stored: (stored.record, {**stored.provenance, "row": ""})
  assert [*map(strip, one)] == [*map(strip, two)]
  other, _ = common.run(
    _maker(base=base, seed=1), "range:7", out=tmp_path / "other"
  )
  assert not {s.record.picture for s in one} & {s.record.picture for s in other}
  assert len({s.record.picture for s in one}) == 7
  assert card.provenance["construction"] == "TextPictures"
  for stored in one:
    image = Image.open(io.BytesIO(stored.record.picture))
    assert image.size in ((256, 192), (192, 256))
    assert stored.provenance["dataset"] == "words"
    for text in stored.provenance["texts"]:
      assert f'"{text["text"]}"' in stored.record.prompt


@needs_fonts
def test_all_ink_is_in_the_boxes_which_do_not_overlap(monkeypatch):
  """Drawn with and without the texts, pictures differ inside boxes only."""
  maker = _maker(
    found={lang: fonts.find(lang) for lang in LANGUAGES},
    max_texts=3,
    sizes=((384, 320),),
  )
  seen = set()
  for index in range(16):
    picture, texts, _ = maker.draw(index)
    real = text_pictures.ImageDraw.ImageDraw.text
    with monkeypatch.context() as patch:
      patch.setattr(
        text_pictures.ImageDraw.ImageDraw, "text", lambda *args, **more: None
      )
      bare, same, _ = maker.draw(index)
    assert text_pictures.ImageDraw.ImageDraw.text is real and same == texts
    ink = np.asarray(ImageChops.difference(picture, bare)).max(-1) > 0
    for text in texts:
      left, top, right, bottom = text["box"]
      assert 0 <= left < right <= 320 and 0 <= top < bottom <= 384
      inside = ink[top:bottom, left:right]
      # Ink reaches the box's sides: it is not larger than the text.
      assert inside[:2].any() and inside[-2:].any()
      assert inside[:, :2].any() and inside[:, -2:].any()
      ink[top:bottom, left:right] = False
      seen.add(text["font"])
    assert not ink.any()
    boxes = sorted(t["box"][1::2] for t in texts)
    assert all(a[1] <= b[0] for a, b in itertools.pairwise(boxes))
  assert len(seen) > 3 or LANGUAGES == ["zh"]


@needs_fonts
def test_text_stands_out():
  for index in range(40):
    rng = np.random.default_rng(index)
    ground, ink = text_pictures._colours(rng)
    assert abs(ground.luminance - ink.luminance) >= 90


@needs_fonts
def test_missing_glyphs_are_seen():
  """A font of the one script does not have the other, or knows both."""
  path = fonts.find(LANGUAGES[0])[0]
  assert fonts.covers(path, fonts.LANGUAGES[LANGUAGES[0]][0])
  assert not fonts.covers(path, "A\U0010fffd")  # private use, never drawn
  assert not fonts.covers(__file__, "A")  # no font at all
  phrases = {LANGUAGES[0]: ("\U0010fffd",)}
  with pytest.raises(ConversionError, match="has all characters"):
    _maker(
      found={LANGUAGES[0]: (path,)}, languages=LANGUAGES[:1], phrases=phrases
    ).draw(0)


@needs_fonts
def test_every_phrase_of_ours_can_be_drawn():
  for language in LANGUAGES:
    files = fonts.find(language)
    for phrase in words.PHRASES[language]:
      assert any(fonts.covers(f, phrase) for f in files), phrase


def test_no_font_says_what_to_install(tmp_path, monkeypatch):
  with pytest.raises(ConversionError, match="apt-get install fonts-noto-cjk"):
    fonts.find("zh", [str(tmp_path)])
  with pytest.raises(ConversionError, match="no such folder"):
    fonts.find("zh", [str(tmp_path / "lost")])
  monkeypatch.setattr(shutil, "which", lambda name: None)
  with pytest.raises(ConversionError, match="fc-list is not installed"):
    fonts.find("en")


@needs_fonts
def test_folders_take_the_place_of_the_systems_fonts(tmp_path):
  path = fonts.find(LANGUAGES[0])[0]
  copy = tmp_path / f"mine{path[-4:]}"
  shutil.copy(path, copy)
  made.jsonl(tmp_path / "no.ttf", "text")
  assert fonts.find(LANGUAGES[0], [str(tmp_path)]) == (str(copy),)


@needs_fonts
def test_a_text_without_room_is_an_error():
  phrases = {lang: ("Word " * 80,) for lang in LANGUAGES}
  maker = _maker(
    found={lang: fonts.find("en") for lang in LANGUAGES}, phrases=phrases
  )
  with pytest.raises(ConversionError, match="has no room"):
    maker.draw(0)


@pytest.mark.parametrize(
  "more, words_",
  [
    ({"languages": ("xx",)}, "Languages are"),
    ({"languages": ()}, "Languages"),
    ({"sizes": ((64, 64),)}, "at least 128"),
    ({"max_texts": 0}, "positive"),
  ],
)
def test_wrong_settings(more, words_):
  with pytest.raises(ConversionError, match=words_):
    _maker(**{"languages": ("en",)} | more)


def test_boxes_survive_the_disk():
  """Provenance may hold lists."""
  from emma_jax.data.curation.base import noted
  from emma_jax.data.records import schema

  boxes = [{"text": "红", "box": [1, 2, 3, 4]}]
  stored = noted(made.samples()[2], texts=boxes)
  back = schema.decode(schema.encode(stored))
  assert json.dumps(back.provenance["texts"]) == json.dumps(boxes)
