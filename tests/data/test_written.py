"""What is written is, byte for byte, what was; what was written is readable."""

import json

import numpy as np
import pytest

from emma_jax.data.batching.segment import Segment
from emma_jax.data.curation import statistics, validation
from emma_jax.data.records import latents
from emma_jax.data.records.card import Card
from emma_jax.data.records.shard import OPTIONS
from emma_jax.data.records.source import RecordsSource
from tests.data import kept, made
from tests.goldens import formats, store


@pytest.fixture(scope="module")
def written() -> dict:
  return formats.cases()


@pytest.mark.parametrize("case", store.read("formats"))
def test_the_bytes_are_those_of_the_format(case, written):
  store.check("formats", case, written[case], store.EXACT, formats.KEPT)


def test_every_case_is_there(written):
  assert written.keys() == store.read("formats").keys()


@pytest.fixture(scope="module")
def old(tmp_path_factory):
  return kept.unpack(tmp_path_factory.mktemp("kept"))


def test_records_of_old_are_read(old):
  """All that stood in them, and their lengths; nothing is found wrong."""
  source = RecordsSource(old / "records")
  order = [0, 2, 1, 3]  # dealt to two shards
  want = [kept.stored()[i] for i in order]
  for row, one in enumerate(want):
    got = source.stored_row(row)
    assert got.provenance == one.provenance and got.weight == one.weight
    # Pictures as Pillow wrote them then.
    texts = lambda r: [
      getattr(r, k, None)
      for k in ("turns", "prompt", "instruction", "stem", "id")
    ]
    assert texts(got.record) == texts(one.record)
    assert len(got.pictures) == len(one.pictures)
  assert source.rows.tolist() == [0, 1, 1, 3]  # weights 1, 2, 0.5, 1
  assert source.lengths.turns.tolist() == [2, 1, 1, 1]
  assert source.lengths.sizes.tolist() == [
    [20, 30],
    [40, 24],
    [20, 30],
    [20, 30],
    [40, 24],
  ]
  spec = f"records:{old / 'records'}"
  found = validation.validate(spec, made.TOKENIZER)
  assert (found.records, found.errors) == (4, 0), found.bad
  told = statistics.collect(spec, made.TOKENIZER)
  assert (told.records, told.shown) == (4, 4)


def test_latents_of_old_are_read(old):
  source = RecordsSource(old / "records", latents=kept.SETTINGS)
  assert source.latents.weights == "abc"
  for row, (count, step) in enumerate(
    [(2, 2**-10), (1, 2**-10), (0, 1), (2, 2**-8)]
  ):
    got = source.latents.stored(row, "w")
    for a, b in zip(got, kept.numbers(count, "float32"), strict=True):
      np.testing.assert_allclose(a, b, rtol=step, atol=0)


def test_a_plan_of_old_is_read(old):
  path = str(old / "segment-000000.npz")
  assert Segment.load(path, "another key") is None
  got, want = Segment.load(path, kept.PLAN_KEY), kept.segment()
  for step in range(3):
    assert got.batch(step) == want.batch(step)
  for name in ("drawn", "used", "row_sizes", "row_buckets", "row_closed"):
    np.testing.assert_array_equal(
      getattr(got.after, name), getattr(want.after, name)
    )
  assert (got.after.batch, got.after.last) == (3, want.after.last)


def test_shards_hold_one_record_a_chunk():
  """Random access reads no other; pictures are not squeezed again."""
  assert OPTIONS == "group_size:1,uncompressed"


# ----------------------------------------------------------------- damage


def _files(folder):
  card = Card.load(folder)
  names = [name for s in card.shards for name in (s.file, s.lengths)]
  parts = latents.folder_of(folder, kept.SETTINGS.of(card))
  return [folder / n for n in names] + [
    folder / parts / s.file for s in card.shards
  ]


@pytest.mark.parametrize("number", range(6))
def test_a_changed_byte_of_any_file_is_found(number, tmp_path):
  """Shards, side files and latents: the checksums are compared."""
  folder = kept.unpack(tmp_path) / "records"
  path = _files(folder)[number]
  data = bytearray(path.read_bytes())
  data[-1] ^= 1  # padding, or a zip's comment: nobody reads it
  path.write_bytes(data)
  found = validation.validate(f"records:{folder}", made.TOKENIZER)
  about = [b for b in found.bad if b.where == str(path)]
  assert len(about) == 1 and "the checksum is not that of" in about[0].reason
  # The same lies in the count of kinds.
  assert found.kinds[validation.kind(about[0].reason)] == 1


def test_latents_that_are_gone_are_found(tmp_path):
  folder = kept.unpack(tmp_path) / "records"
  path = _files(folder)[4]
  path.unlink()
  found = validation.validate(f"records:{folder}", made.TOKENIZER)
  assert [(b.where, "cannot be read" in b.reason) for b in found.bad] == [
    (str(path), True)
  ]


@pytest.mark.parametrize("field", ["sha256", "lengths_sha256"])
def test_a_checksum_of_the_card_is_compared(field, tmp_path):
  folder = kept.unpack(tmp_path) / "records"
  card = json.loads((folder / "dataset.json").read_text())
  card["shards"][1][field] = "0" * 64
  (folder / "dataset.json").write_text(json.dumps(card))
  found = validation.validate(f"records:{folder}", made.TOKENIZER)
  assert [b.reason for b in found.bad] == [
    "the checksum is not that of dataset.json"
  ]


@pytest.mark.parametrize(
  "change, words",
  [
    (dict(records_sha256="x"), "belongs to other records"),
    (dict(bytes=1), "instead of 1"),
    (dict(weights="other"), "2 autoencoders"),
  ],
)
def test_latents_of_something_else_do_not_open(change, words, tmp_path):
  folder = kept.unpack(tmp_path) / "records"
  (path,) = folder.glob("latents-*/part-00001.json")
  path.write_text(json.dumps(json.loads(path.read_text()) | change))
  with pytest.raises(ValueError, match=words):
    RecordsSource(folder, latents=kept.SETTINGS)
