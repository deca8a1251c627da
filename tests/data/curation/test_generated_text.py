"""Words in scenes: quoted in the prompt, noted, and read again."""

import dataclasses

import pytest

from emma_jax.data.curation import answers, generated_text
from emma_jax.data.ingest.job import ConversionError
from tests.data import made
from tests.data.curation import common
from tests.data.curation.fake_server import Fake, serve
from tests.data.curation.test_remote import ask, paint


def _maker(url, folder, **more) -> generated_text.GenerateText:
  base = dataclasses.replace(common.recipe(dataset="words"), form="index")
  return generated_text.GenerateText(
    base=base, painter=paint(url, folder), **more
  )


def test_drawn_by_a_generator_and_read(tmp_path):
  fake = Fake()
  with serve(fake) as url:
    drawn, _ = common.run(
      _maker(url, tmp_path), "range:5", out=tmp_path / "drawn"
    )
    assert fake.asked["/v1/images/generations"] == len(
      {s.record.prompt for s in drawn}
    )
    for stored in drawn:
      assert stored.provenance["drawn_by"] == "p"
      for text in stored.provenance["texts"]:
        assert f'"{text["text"]}"' in stored.record.prompt
    check = generated_text.CheckText(
      base=common.recipe(),
      answers=ask(url, tmp_path, prompt='Reply: {"texts": []}'),
    )
    # One picture is misread from now on.
    lost = next(iter(fake.signs))
    fake.signs[lost] = ["OPFN"]
    read, card = common.run(check, tmp_path / "drawn", out=tmp_path / "read")
  assert len(read) == 4 and card.provenance["left out"] == {"text misread": 1}
  assert all(s.provenance["text_read"] for s in read)


def test_words_beside_the_wanted_ones(tmp_path):
  fake = Fake()
  with serve(fake) as url:
    common.run(_maker(url, tmp_path), "range:1", out=tmp_path / "drawn")
  (drawn,) = fake.signs.values()
  path = made.jsonl(
    tmp_path / "r.jsonl", {"id": "drawn-text-0-0", "texts": [*drawn, "a b"]}
  )
  check = lambda most: generated_text.CheckText(
    base=common.recipe(),
    answers=answers.Precomputed(path=str(path)),
    max_extra=most,
  )
  for most in (None, 2):
    found, _ = common.run(
      check(most), tmp_path / "drawn", out=tmp_path / f"{most}"
    )
    assert len(found) == 1
  with pytest.raises(ConversionError, match="2 words more"):
    common.run(check(1), tmp_path / "drawn", out=tmp_path / "one")


@pytest.mark.parametrize(
  "more, words",
  [
    ({"missing": "keep"}, "nothing to keep"),
    ({"max_texts": 0}, "max_texts"),
    ({"scenes": ("a sign",)}, "must hold"),
  ],
)
def test_mistakes(tmp_path, more, words):
  with pytest.raises(ConversionError, match=words):
    _maker("http://a", tmp_path, **more)
