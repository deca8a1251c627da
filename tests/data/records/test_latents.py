"""The file format of latents, and what is refused when they are opened."""

import dataclasses
import json
import pickle

import numpy as np
import pytest

from emma_jax.data.curation import validation
from emma_jax.data.pictures.images import BadRecord
from emma_jax.data.records import latents, schema
from emma_jax.data.records.source import RecordsSource
from emma_jax.structs import WithLatent
from tests import neutral
from tests.data import made

SETTINGS = latents.Settings(
  framing=neutral.framing(height=32, width=64, native=True, max_tokens=6),
  autoencoder="a" * 12,
  dtype="float32",
)


def _latent(seed: int, h: int, w: int) -> np.ndarray:
  return np.random.default_rng(seed).normal(size=(h, w, 4)).astype(np.float32)


def _of(record: int, count: int) -> list[np.ndarray]:
  return [_latent(10 * record + i, 1 + i, 2) for i in range(count)]


def _written(folder, weights: str = "w"):
  """Latents of all shards of a data set, whatever its pictures are."""
  source = RecordsSource(str(folder))
  wanted = SETTINGS.of(source.card)
  out = latents.folder_of(str(folder), wanted)
  (folder / out).mkdir()
  (folder / out / "settings.json").write_text(json.dumps(wanted))
  first = 0
  for shard in source.card.shards:
    elements = [
      latents.encode(
        _of(first + i, source.lengths.pictures[first + i]), "float16"
      )
      for i in range(shard.records)
    ]
    latents.write_part(
      out,
      shard,
      elements,
      pictures=0,
      missing=0,
      weights=weights,
      dtype="float16",
    )
    first += shard.records
  return folder / out


@pytest.fixture
def folder(tmp_path):
  return made.dataset(tmp_path / "set", made.samples(), shards=2)


@pytest.mark.parametrize(
  "dtype, bits", [("float32", 24), ("float16", 11), ("bfloat16", 8)]
)
def test_elements_come_back(dtype, bits):
  given = [_latent(0, 2, 3), None, _latent(1, 1, 1)]
  one, none, other = latents.decode(latents.encode(given, dtype))
  assert none is None and one.dtype == np.float32
  for got, want in ((one, given[0]), (other, given[2])):
    np.testing.assert_allclose(got, want, rtol=2.0**-bits)
  assert latents.decode(latents.encode([], dtype)) == []


@pytest.mark.parametrize(
  "change",
  [
    lambda d: b"EMR1" + d[4:],
    lambda d: d[:7],
    lambda d: d[:-1],
    lambda d: d + b"1234",
    lambda d: d[:4] + b"\7" + d[5:],
  ],
)
def test_damaged_elements_are_bad_records(change):
  data = latents.encode([_latent(0, 2, 3)], "float32")
  with pytest.raises(BadRecord, match="here: no latents"):
    latents.decode(change(data), "here")


def test_records_bring_their_latents(folder):
  """By record, also where weights repeat and where workers pickle."""
  _written(folder)
  source = pickle.loads(
    pickle.dumps(RecordsSource(str(folder), latents=SETTINGS))
  )
  plain = RecordsSource(str(folder))
  assert source.latents.weights == "w" and len(source) == 5  # one counts twice
  for i in range(len(source)):
    got, want, row = source[i], plain[i], source.row(i)
    pairs = zip(*map(schema.pictures_of, (got, want)), strict=True)
    for k, (picture, raw) in enumerate(pairs):
      assert isinstance(picture, WithLatent) and picture.picture == raw
      np.testing.assert_allclose(
        picture.latent_hwC, _of(row, k + 1)[k], rtol=1e-3
      )


def test_a_picture_without_latents_is_a_bad_record(folder):
  source = RecordsSource(str(folder))
  with pytest.raises(BadRecord, match="could not be encoded"):
    latents.attach(source[0], [None, _latent(0, 1, 1)], "here")
  with pytest.raises(BadRecord, match="latents of 3 pictures"):
    latents.attach(source[0], [_latent(0, 1, 1)] * 3, "here")


def _other_size(folder, out):
  del folder, out
  return dataclasses.replace(
    SETTINGS,
    framing=dataclasses.replace(
      SETTINGS.framing, generation=neutral.preprocess(height=32, width=96)
    ),
  )


def _without_a_part(folder, out):
  del folder
  (out / "part-00001.json").unlink()


def _cut(folder, out):
  del folder
  path = out / "part-00000.array_record"
  path.write_bytes(path.read_bytes()[:-1])


def _two_makers(folder, out):
  del folder
  path = out / "part-00001.json"
  path.write_text(path.read_text().replace('"w"', '"v"'))


def _other_records(folder, out):
  del out
  path = folder / "dataset.json"
  card = json.loads(path.read_text())
  card["shards"][0]["sha256"] = "0" * 64
  path.write_text(json.dumps(card))


@pytest.mark.parametrize(
  "spoil, words",
  [
    (
      _other_size,
      r"no latents for .*generation 32x96.*\(there are some for .*"
      r"generation 32x64.*emma-data encode-latents",
    ),
    (_without_a_part, "lacks the latents of 1 of 2 shards.*part-00001"),
    (_cut, "has [0-9]* bytes instead of"),
    (_two_makers, "of 2 autoencoders; remove it"),
    (_other_records, "belongs to other records"),
  ],
)
def test_what_does_not_fit_is_refused_with_the_remedy(folder, spoil, words):
  out = _written(folder)
  settings = spoil(folder, out) or SETTINGS
  with pytest.raises(ValueError, match=words):
    RecordsSource(str(folder), latents=settings)


def test_settings_that_play_no_part_are_left_out(tmp_path):
  """A set of drawings can be read whatever becomes of questions' pictures."""
  stored = [s for s in made.samples() if s.task == "drawing"]
  folder = made.dataset(tmp_path / "set", stored)
  _written(folder)
  other = dataclasses.replace(
    SETTINGS,
    framing=dataclasses.replace(
      SETTINGS.framing, understanding=neutral.preprocess(height=64, width=64)
    ),
  )
  assert RecordsSource(str(folder), latents=other).latents.weights == "w"


def test_validation_compares_their_checksums(folder):
  out = _written(folder)
  look = lambda: validation.validate(f"records:{folder}", made.TOKENIZER)
  assert not look().errors
  path = out / "part-00001.array_record"
  path.write_bytes(path.read_bytes()[:-1] + b"x")
  (out / "part-00000.json").write_text("{")
  assert [b.reason.split(":")[0] for b in look().bad] == [
    "cannot be read",
    "the checksum is not that of part-00001.json",
  ]
