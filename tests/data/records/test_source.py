"""A folder of records: random access, lengths, weights, damage."""

import dataclasses
import json
import pickle

import numpy as np
import pytest

from emma_jax.data.loading import dataset, sources
from emma_jax.data.pictures.images import BadRecord
from emma_jax.data.records import card as card_lib
from emma_jax.data.records import lengths, schema
from emma_jax.data.records.card import Card
from emma_jax.data.records.source import RecordsSource, shown
from emma_jax.data.transforms import Text
from emma_jax.structs import Drawing
from tests import neutral
from tests.data import made


def _drawings(count: int, **more) -> list[schema.Stored]:
  return [
    schema.Stored(
      record=Drawing(prompt=f"no {i}", picture=made.noise(y=30 + i), id=f"{i}"),
      **more,
    )
    for i in range(count)
  ]


def test_all_tasks_in_several_shards(tmp_path):
  stored = [dataclasses.replace(s, weight=1.0) for s in made.samples()]
  source = RecordsSource(made.dataset(tmp_path / "d", stored, shards=3))
  order = [0, 3, 1, 2]  # dealt to the shards in turn
  assert [source[i] for i in range(4)] == [stored[i].record for i in order]
  assert source.stored(0).provenance["row"] == "a.jsonl:1"
  assert source.where(1).endswith("d/part-00000.array_record[1]")
  assert source.where(3).endswith("d/part-00002.array_record[0]")
  assert source.task is None
  for index in (-1, 4):
    with pytest.raises(IndexError):
      source[index]
  twin = pickle.loads(pickle.dumps(source))
  assert twin[2] == source[2]


def test_a_spec_opens_it_and_a_task_is_checked(tmp_path):
  folder = made.dataset(tmp_path / "d", _drawings(2))
  source = sources.open_source(f"records:{folder}", "drawing")
  assert source.task == "drawing" and len(source) == 2
  assert sources.is_shuffled(f"records:{folder}")
  with pytest.raises(ValueError, match="those of 'editing'"):
    sources.open_source(f"records:{folder}", "editing")


def test_weights_say_how_often(tmp_path):
  weights = (1, 0, 2, 0.5, 0.5)
  stored = [
    dataclasses.replace(s, weight=w) for s, w in zip(_drawings(5), weights)
  ]
  source = RecordsSource(made.dataset(tmp_path / "d", stored))
  assert [source[i].id for i in range(len(source))] == ["0", "2", "2", "4"]
  assert source.where(3).endswith("[4]")
  many = np.random.default_rng(0).choice([0.1, 0.7, 1.5], 10_000)
  counts = np.bincount(shown(many), minlength=many.size)
  assert np.abs(np.cumsum(counts) - np.cumsum(many)).max() <= 1


def test_lengths_are_those_of_the_samples(tmp_path):
  stored = made.samples()
  source = RecordsSource(made.dataset(tmp_path / "d", stored))
  table = source.lengths
  to_sample = lengths.Measure.of(made.TOKENIZER).to_sample
  for i, one in enumerate(stored):
    parts = to_sample(one.record).parts
    texts = sum(len(p.tokens) for p in parts if isinstance(p, Text))
    assert table.text_tokens()[i] == texts
  assert table.text_tokens(1)[0] < table.text_tokens()[0]
  assert table.turns.tolist() == [2, 1, 1, 1]
  assert table.pictures.tolist() == [2, 0, 1, 2]
  assert table.sizes.tolist() == [[20, 30], [8, 9], [20, 30], [20, 30], [8, 9]]
  assert [schema.TASKS[t] for t in table.task] == list(schema.TASKS)
  assert table.tokenizer == made.TOKENIZER.fingerprint()
  assert table.stem.tolist() == [1, -1, -1, -1]
  with pytest.raises(ValueError, match="2 tokenizers"):
    lengths.Lengths.joined([table, dataclasses.replace(table, tokenizer="x")])


def test_a_flipped_bit_costs_one_record(tmp_path):
  folder = made.dataset(tmp_path / "d", _drawings(6))
  path = folder / "part-00000.array_record"
  data = bytearray(path.read_bytes())
  at = data.find(b'"no 3"')
  assert at > 0
  data[at + 400] ^= 1  # in the picture, where no decoder would see it
  path.write_bytes(data)
  source = RecordsSource(folder)
  for _ in range(2):  # the reader goes on after the error
    for i in range(6):
      if i != 3:
        assert source[i].prompt == f"no {i}"
        continue
      with pytest.raises(BadRecord, match="cannot be read") as e:
        source[i]
      assert e.value.where.endswith("part-00000.array_record[3]")


def test_folders_that_do_not_open(tmp_path):
  with pytest.raises(ValueError, match="no data set"):
    RecordsSource(tmp_path / "none")
  (tmp_path / "half.partial").mkdir()
  with pytest.raises(ValueError, match="same command again"):
    RecordsSource(tmp_path / "half")
  folder = made.dataset(tmp_path / "d", _drawings(2))
  shard = folder / "part-00000.array_record"
  whole = shard.read_bytes()
  shard.write_bytes(whole[:-1])
  with pytest.raises(ValueError, match="bytes were written"):
    RecordsSource(folder)
  shard.unlink()
  with pytest.raises(ValueError, match="is missing"):
    RecordsSource(folder)
  card = json.loads((folder / "dataset.json").read_text())
  for change in ({"version": 2}, {"format": "x"}, {"shards": 3}):
    (folder / "dataset.json").write_text(json.dumps(card | change))
    with pytest.raises(ValueError, match="is not right"):
      Card.load(folder)


@pytest.mark.parametrize(
  "text, ours",
  [
    ('[{"image": "a.png", "caption": "red"}]', False),
    ('\ufeff\n [{"image": "a.png"}', False),  # a table, though it breaks off
    ('{"name": "mine"}', False),
    ("", True),  # what is damaged may be ours, and is told
    ('{"name": "mine", "for', True),
  ],
)
def test_a_dataset_json_of_others_is_no_card(tmp_path, text, ours):
  (tmp_path / "dataset.json").write_text(text)
  assert card_lib.is_data_set(tmp_path) == ours
  with pytest.raises(ValueError, match="dataset.json is not right: .*"):
    Card.load(tmp_path)


def test_ours_is_one(tmp_path):
  assert card_lib.is_data_set(made.dataset(tmp_path / "d", _drawings(2)))
  assert not card_lib.is_data_set(tmp_path)


def test_training_counts_bad_records_and_goes_on(tmp_path):
  """A record whose picture is broken is a hole, named by file and row."""
  stored = _drawings(10)
  broken = made.noise()[:-900]
  stored[4] = dataclasses.replace(
    stored[4], record=Drawing(prompt="no 4", picture=broken, id="4")
  )
  folder = made.dataset(tmp_path / "d", stored, shards=2)
  config = neutral.data_config(
    seed=0,
    sources={"draw": f"records:{folder}"},
    phases=(neutral.phase({"draw": 1}),),
    samples_per_batch=5,
    layout=neutral.layout(
      rows=4,
      und_tokens=64,
      und_pictures=1,
      references=1,
      targets=2,
      height=64,
      width=64,
    ),
    framing=neutral.framing(height=64, width=64),
    max_bad_share=1.0,
  )
  source = dataset.open_pipeline(config, made.TOKENIZER)
  infos = [source[step].info for step in range(4)]  # two epochs
  bad = [b for info in infos for b in info.bad]
  assert len(bad) == 2 and "cannot read the picture" in bad[0].reason
  assert bad[0].where.endswith("part-00000.array_record[2]")
  with dataset.stream(source, 0, num_workers=1, buffer=1) as batches:
    for info in infos:
      assert next(batches).info == info
