"""Laws of the sequence layouts beyond the examples in their docstrings."""

import dataclasses

import numpy as np
import pytest

from emma_jax.data.pictures.images import BadRecord
from emma_jax.data.text import tokenizer as tokens_lib
from emma_jax.data.transforms import Picture, Sample, Text, further_turn
from emma_jax.structs import Drawing, Editing, Understanding
from tests import neutral

TOKENIZER = tokens_lib.TinyTokenizer(["red"])
PICTURE = np.zeros((32, 32, 3), np.uint8)
TO_SAMPLE = neutral.to_sample(
  tokenizer=TOKENIZER, framing=neutral.framing(height=32, width=32)
)


def _ids(sample: Sample) -> list[int]:
  return [i for p in sample.parts if isinstance(p, Text) for i in p.tokens]


def _ask(*turns, pictures: int = 1, **kw) -> Understanding:
  return Understanding(pictures=(PICTURE,) * pictures, turns=turns, **kw)


@pytest.mark.smoke
@pytest.mark.parametrize(
  "whole, prefix",
  [
    (Drawing(prompt="a", picture=PICTURE), Drawing(prompt="a")),
    (
      Editing(sources=(PICTURE,), instruction="a", target=PICTURE),
      Editing(sources=(PICTURE,), instruction="a"),
    ),
  ],
)
def test_the_prefix_is_the_sequence_without_its_target(whole, prefix):
  whole, prefix = TO_SAMPLE(whole), TO_SAMPLE(prefix)
  assert _ids(whole) == _ids(prefix)
  assert len(whole.parts) == len(prefix.parts) + 1
  assert whole.parts[-1].role == "target"
  assert _ids(prefix)[-1] == TOKENIZER.special[tokens_lib.VISION_START]


def test_a_conversation_grows_by_further_turns():
  """What is sampled turn by turn is what training saw."""
  whole = TO_SAMPLE(_ask(("q", "a"), ("r", "b")))
  ids = _ids(TO_SAMPLE(_ask(("q", None))))
  ids += [*TOKENIZER.encode("a"), TOKENIZER.eos]
  ids += further_turn(TOKENIZER, "r")
  ids += [*TOKENIZER.encode("b"), TOKENIZER.eos]
  assert ids == _ids(whole)
  open_end = _ids(TO_SAMPLE(_ask(("q", "a"), ("r", None))))
  assert ids[: len(open_end)] == open_end


def test_max_turns():
  few = neutral.to_sample(
    tokenizer=TOKENIZER, framing=TO_SAMPLE.framing, max_turns=1
  )
  talk = _ask(("q", "a"), ("r", "b"))
  assert _ids(few(talk)) == _ids(TO_SAMPLE(_ask(("q", "a"))))


def test_pictures_stand_at_their_marks():
  sample = TO_SAMPLE(
    _ask(("<image>\nor <image>?", "a"), ("<image>", "b"), pictures=3, stem=1)
  )
  assert sample.show(TOKENIZER) == (
    "<|im_start|>user\n<|vision_start|>[und]<|vision_end|>or "
    "<|vision_start|>[und]<|vision_end|>?<|im_end|>\n"
    "<|im_start|>assistant\n{a<|im_end|>}\n"
    "<|im_start|>user\n<|vision_start|>[und]<|vision_end|><|im_end|>\n"
    "<|im_start|>assistant\n{b<|im_end|>}"
  )
  stems = [p.stem for p in sample.parts if isinstance(p, Picture)]
  assert stems == [1, 1, 1]
  with pytest.raises(BadRecord, match="1 <image> marks for 2 pictures"):
    TO_SAMPLE(_ask(("<image>", "a"), pictures=2))


def test_text_without_pictures_and_broken_turns():
  assert TO_SAMPLE(_ask(("q", "a"), pictures=0)).show(TOKENIZER) == (
    "<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\n{a<|im_end|>}"
  )
  with pytest.raises(BadRecord, match="no turns"):
    TO_SAMPLE(_ask())
  with pytest.raises(BadRecord, match="no answer"):
    TO_SAMPLE(_ask(("q", None), ("r", "b")))


def test_dropout_shares_and_independence():
  to_sample = neutral.to_sample(
    tokenizer=TOKENIZER,
    framing=TO_SAMPLE.framing,
    text_dropout=0.3,
    reference_dropout=0.5,
  )
  edit = Editing(sources=(PICTURE,), instruction="zebra", target=PICTURE)
  rng = np.random.default_rng(0)
  shown = [to_sample(edit, rng).show(TOKENIZER) for _ in range(2000)]
  text = np.array(["zebra" not in s for s in shown])
  reference = np.array(["[ref]" not in s for s in shown])
  assert abs(text.mean() - 0.3) < 0.03
  assert abs(reference.mean() - 0.5) < 0.03
  assert abs((text & reference).mean() - 0.15) < 0.03
  assert "zebra" in to_sample(edit).show(TOKENIZER)  # without rng: never


def test_sources_stand_before_the_instruction_and_are_dropped_at_once():
  shades = [np.full((32, 32, 3), n, np.uint8) for n in (1, 2, 3)]
  edit = Editing(sources=tuple(shades), instruction="red", target=PICTURE)
  sample = TO_SAMPLE(edit)
  shown = "<|vision_start|>[ref]<|vision_end|>"
  assert sample.show(TOKENIZER) == (
    f"<|im_start|>user\n{3 * shown}red<|im_end|>\n<|im_start|>assistant\n"
    "<|vision_start|>[target]"
  )
  refs = [p.pixels_YXC for p in sample.parts if getattr(p, "role", "") == "ref"]
  np.testing.assert_array_equal(refs, shades)
  to_sample = dataclasses.replace(TO_SAMPLE, reference_dropout=0.5)
  rng = np.random.default_rng(0)
  counts = [
    to_sample(edit, rng).show(TOKENIZER).count("[ref]") for _ in "x" * 99
  ]
  assert set(counts) == {0, 3}
  # By the numbers of the stream that an edit of one source takes.
  one = dataclasses.replace(edit, sources=edit.sources[:1])
  rng = np.random.default_rng(0)
  alone = [to_sample(one, rng).show(TOKENIZER).count("[ref]") for _ in "x" * 99]
  assert [3 * n for n in alone] == counts


def test_understanding_is_never_dropped():
  to_sample = neutral.to_sample(
    tokenizer=TOKENIZER,
    framing=TO_SAMPLE.framing,
    text_dropout=0.9,
    reference_dropout=0.9,
  )
  talk = _ask(("q", "a"))
  rng = np.random.default_rng(0)
  assert _ids(to_sample(talk, rng)) == _ids(TO_SAMPLE(talk))


def test_constructor_checks():
  with pytest.raises(ValueError, match="text_dropout=1"):
    neutral.to_sample(
      tokenizer=TOKENIZER, framing=TO_SAMPLE.framing, text_dropout=1
    )
  with pytest.raises(ValueError, match="max_turns=0"):
    neutral.to_sample(
      tokenizer=TOKENIZER, framing=TO_SAMPLE.framing, max_turns=0
    )
