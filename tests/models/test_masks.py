"""The mask: the drawing in its docstring, and the laws of paper section 3."""

import functools

from hypothesis import given
from hypothesis import strategies as st
import jax
import numpy as np
import pytest

from emma_jax.data.batching.packing import pack
from emma_jax.data.transforms import Sample, Text
from emma_jax.models import masks
from emma_jax.structs import Batch, TokenIds
from tests import tiny
from tests.data import oracle
from tests.laws import laws

pytestmark = pytest.mark.smoke


def row_ids(batch: Batch) -> TokenIds:
  """Ids of both buffers of row 0 in reading order, padding last."""
  ids = masks.join(batch.und_ids, batch.gen_ids)
  order = np.argsort(np.asarray(ids.order[0]), kind="stable")
  pick = lambda x: np.asarray(x)[:1, order]
  return TokenIds(
    *(pick(getattr(ids, n)) for n in TokenIds.__dataclass_fields__)
  )


def drawn() -> tuple[list[str], np.ndarray]:
  """Token letters and 0/1 table of the docstring."""
  lines = masks.__doc__.splitlines()
  head = next(
    i for i, line in enumerate(lines) if line.split()[:2] == ["r", "r"]
  )
  letters = lines[head].split()
  columns = [i for i, c in enumerate(lines[head]) if c != " "]
  table = [
    [line.ljust(80)[c] == "1" for c in columns]
    for line in lines[head + 1 : head + 1 + len(letters)]
  ]
  return letters, np.array(table)


def test_the_drawing_in_the_docstring():
  letters, table = drawn()
  assert "".join(letters) == "rriinnppqa"
  ids = TokenIds(
    segment=np.array([[1] * 6 + [2] * 4]),
    order=np.arange(10)[None],
    last_visible=np.array([[1, 1, 2, 3, 5, 5, 6, 7, 8, 9]]),
    noise_group=np.array([[0] * 4 + [1] * 2 + [0] * 4]),
    position=np.array([[*range(6), *range(4)]]),
  )
  np.testing.assert_array_equal(np.asarray(masks.allow(ids, ids))[0], table)


def test_understanding_is_strictly_causal_pictures_included():
  ids = row_ids(tiny.packed([tiny.understanding()]))
  n = 10  # 8 words and a picture of two tokens
  allow = np.asarray(masks.allow(ids, ids))[0]
  np.testing.assert_array_equal(allow[:n, :n], np.tril(np.ones((n, n), bool)))
  assert not allow[n:].any() and not allow[:, n:].any()  # padding


@pytest.mark.parametrize("variant", ["paper", "reference_und", "token_fusion"])
def test_generation_sees_its_own_picture_in_both_directions(variant):
  """All before it and itself, as a whole; in words alone it is causal."""
  batch = tiny.packed([tiny.editing()], variant)
  ids = row_ids(batch)
  ref = 4 if variant == "token_fusion" else 2
  picture = [*[0], *[1] * ref, *[0] * 3, *[2] * 2]
  n = len(picture)
  allow = np.asarray(masks.allow(ids, ids))[0]
  expected = np.tril(np.ones((n, n), bool))
  for i in range(n):
    for j in range(n):
      if picture[i] and picture[i] == picture[j]:
        expected[i, j] = True
  np.testing.assert_array_equal(allow[:n, :n], expected)


def test_a_noisy_picture_that_is_not_the_last_stays_hidden():
  word = lambda i: Text((i,))
  sample = Sample(
    "drawing",
    (word(5), tiny.picture(0, "target"), word(6), tiny.picture(1, "target")),
  )
  ids = row_ids(tiny.packed([sample]))
  allow = np.asarray(masks.allow(ids, ids))[0, :6, :6]
  np.testing.assert_array_equal(
    allow.astype(int),
    [
      [1, 0, 0, 0, 0, 0],
      [1, 1, 1, 0, 0, 0],
      [1, 1, 1, 0, 0, 0],
      [1, 0, 0, 1, 0, 0],
      [1, 0, 0, 1, 1, 1],
      [1, 0, 0, 1, 1, 1],
    ],
  )


def test_samples_of_a_row_do_not_see_each_other():
  batch = tiny.packed([tiny.understanding(), tiny.editing(), tiny.drawing()])
  ids = row_ids(batch)
  allow = np.asarray(masks.allow(ids, ids))[0]
  segment = ids.segment[0]
  other = segment[:, None] != segment[None]
  assert set(segment) == {0, 1, 2, 3}
  assert not (allow & other).any()
  assert not allow[segment == 0].any()
  np.testing.assert_array_equal(np.diag(allow), segment > 0)


def test_the_buffers_order_does_not_matter():
  """Permuted queries and keys give the permuted mask."""
  ids = row_ids(tiny.packed([tiny.editing(), tiny.understanding()]))
  n = ids.order.shape[1]
  rng = np.random.default_rng(0)
  a, b = rng.permutation(n), rng.permutation(n)
  take = lambda p: TokenIds(
    *(getattr(ids, name)[:, p] for name in TokenIds.__dataclass_fields__)
  )
  np.testing.assert_array_equal(
    np.asarray(masks.allow(take(a), take(b)))[0],
    np.asarray(masks.allow(ids, ids))[0][a][:, b],
  )


def test_plain_text_is_causal_within_segments():
  segment = np.array([[1, 1, 2, 2, 0]])
  ids = masks.causal(segment, np.array([[0, 1, 0, 1, 0]]))
  np.testing.assert_array_equal(
    np.asarray(masks.allow(ids, ids))[0],
    np.array(
      [
        [1, 0, 0, 0, 0],
        [1, 1, 0, 0, 0],
        [0, 0, 1, 0, 0],
        [0, 0, 1, 1, 0],
        [0, 0, 0, 0, 0],
      ],
      bool,
    ),
  )


_NUMBERS = st.lists(st.tuples(*[st.integers(0, 3)] * 4), min_size=8, max_size=8)
_jitted = jax.jit(lambda q, k: (masks.allow(q, k), masks.tiles(q, k, 4, 2)))


def _ids(numbers: list[tuple[int, ...]]) -> TokenIds:
  """One row of (segment, slot, end, noisy)."""
  columns = [np.array([c], np.int32) for c in zip(*numbers)]
  return TokenIds(*columns, position=np.zeros((1, len(numbers)), np.int32))


@laws(60)
@given(_NUMBERS, _NUMBERS)
def test_the_mask_by_brute_force_whatever_the_ids(queries, keys):
  """And what `tiles` says is NOTHING or ALL is so (4 queries by 2 keys)."""
  allow, tiles = map(np.asarray, _jitted(_ids(queries), _ids(keys)))
  for i, (segment, _, end, noisy) in enumerate(queries):
    for j, (other, slot, _, noise) in enumerate(keys):
      want = (
        segment == other != 0 and slot <= end and (noise == 0 or noise == noisy)
      )
      assert allow[0, i, j] == want
  for i, said in enumerate(tiles[0]):
    for j, kind in enumerate(said):
      part = allow[0, 4 * i : 4 * i + 4, 2 * j : 2 * j + 2]
      assert kind != masks.NOTHING or not part.any()
      assert kind != masks.ALL or part.all()


def test_tiles_of_causal_text():
  """A tile on the diagonal is neither whole nor empty."""
  text = _ids([(1, i, i, 0) for i in range(8)])
  _, tiles = _jitted(text, text)
  n, s, a = masks.NOTHING, masks.SOME, masks.ALL
  assert np.asarray(tiles[0]).tolist() == [[s, s, n, n], [a, a, s, s]]


@laws(20)
@given(st.data())
def test_who_sees_whom_in_packed_rows_by_brute_force(data):
  """From the samples' parts alone: paper section 3, token by token."""
  layout = data.draw(
    st.sampled_from(["paper", "reference_und", "token_fusion"]).map(
      lambda variant: tiny.layout(variant, references=3)
    )
  )
  edits = [functools.partial(tiny.editing, sources=n) for n in (1, 2, 3)]
  makers = st.sampled_from([tiny.understanding, tiny.drawing, *edits])
  samples = [
    make(seed)
    for seed, make in enumerate(
      data.draw(st.lists(makers, min_size=1, max_size=4))
    )
  ]
  batch, info = pack(samples, layout)
  ids = TokenIds(
    *(
      np.concatenate(
        [getattr(x, name) for x in (batch.und_ids, batch.gen_ids)], axis=1
      )
      for name in TokenIds.__dataclass_fields__
    )
  )
  allow = masks.allow(ids, ids)
  for row, placed in enumerate(info.placed):
    flat = oracle.row_tokens([samples[i] for i in placed], layout)
    order = np.argsort(ids.order[row], kind="stable")[: len(flat)]
    for i, query in enumerate(flat):
      for j, key in enumerate(flat):
        same = query.sample == key.sample
        picture = (
          same
          and query.role == key.role != ""
          and (query.picture == key.picture)
        )
        whole = picture and query.role in ("ref", "target")
        want = same and (whole or j <= i) and (key.role != "target" or picture)
        assert allow[row, order[i], order[j]] == want
    assert allow[row].sum() == allow[row][np.ix_(order, order)].sum()
