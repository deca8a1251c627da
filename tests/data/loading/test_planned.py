"""Planned batches of records: any hosts, workers and resumes, one stream."""

import dataclasses
import hashlib
import json
import pickle

import jax
import numpy as np
import pytest

from emma_jax.build import data as build_data
from emma_jax.build import sections
from emma_jax.data.batching import plan as plan_lib
from emma_jax.data.loading import batch_stats, dataset
from emma_jax.data.records.card import Card
from emma_jax.data.records.lengths import Lengths
from emma_jax.data.text.tokenizer import TinyTokenizer
from tests import neutral
from tests.data import made, recorded

TOKENIZER = TinyTokenizer()


@pytest.fixture(scope="module")
def config(tmp_path_factory) -> dataset.DataConfig:
  """Two buckets, three sources, two phases, short segments."""
  folders = recorded.folders(tmp_path_factory.mktemp("records"))
  plain = sections.plain(recorded.config(folders))
  source = build_data.batches(plain, "3_quality")
  return dataclasses.replace(source.config, plan_segment=4)


def _open(config, index=0, count=1, **more) -> dataset.BatchDataset:
  return dataset.open_pipeline(
    config, TOKENIZER, shard_index=index, shard_count=count, **more
  )


def _hash(batch, ids) -> str:
  out = hashlib.sha256(json.dumps(ids).encode())
  for leaf in jax.tree.leaves(batch):
    out.update(f"{leaf.dtype}{leaf.shape}".encode())
    out.update(np.ascontiguousarray(leaf).tobytes())
  return out.hexdigest()


@pytest.fixture(scope="module")
def hashes(config) -> list[str]:
  source = _open(config)
  return [_hash(source[s].batch, source[s].info.ids) for s in range(10)]


@pytest.mark.parametrize("hosts", [1, 2, 4])
def test_hosts_read_their_rows_of_one_stream_and_count_them(
  config, hashes, hosts
):
  parts = [_open(config, i, hosts) for i in range(hosts)]
  for step in (0, 5, 9):
    out = [part[step] for part in parts]
    whole = jax.tree.map(lambda *x: np.concatenate(x), *(o.batch for o in out))
    ids = [row for o in out for row in o.info.ids]
    assert _hash(whole, ids) == hashes[step]
    sums = {
      k: sum(o.info.counts()[k] for o in out) for k in out[0].info.counts()
    }
    assert sums == _open(config)[step].info.counts()
    assert sums["drawn"] == len(parts[0].names(step))
    assert sums["tokens"] == sum(
      sums[f"source tokens/{name}"] for name in recorded.COUNTS
    )


@pytest.mark.parametrize("start, workers", [(3, 0), (1, 2)])
def test_workers_and_resumes_change_nothing(
  config, hashes, start, workers, tmp_path
):
  source = _open(config, plans=str(tmp_path))
  with dataset.stream(source, start, num_workers=workers, buffer=1) as stream:
    for step in range(start, 10):
      out = next(stream)
      assert _hash(out.batch, out.info.ids) == hashes[step]


def test_a_step_has_pictures_of_one_bucket_and_both_come(config):
  source = _open(config)
  sizes = set()
  for step in range(10):
    batch = source[step].batch
    layout = source.layout(step)
    size = layout.height, layout.width
    sizes.add(size)
    for pixels in (
      batch.gen_pixels_BMYXC,
      batch.ref_pixels_BRYXC,
      batch.und_pixels_BNYXC,
    ):
      assert pixels.shape[2:4] == size
  assert sizes == set(recorded.BUCKETS)


def test_what_is_packed_is_what_was_planned(config):
  """Every row, to the token, where nothing is dropped by chance."""
  config = dataclasses.replace(config, text_dropout=0, reference_dropout=0)
  source = _open(config)
  tables = dict(zip(source.plan.drawer.names, source.plan.drawer.tables))
  for step in range(6):
    plan, host = source.plan.batch(step), source[step]
    for r, row in enumerate(plan.rows):
      assert host.info.ids[r] == tuple(
        f"{d.name}/{d.epoch}/{d.index}" for d in row
      )
      used = np.count_nonzero(host.batch.und_ids.segment[r])
      used += np.count_nonzero(host.batch.gen_ids.segment[r])
      assert used == sum(tables[d.name].tokens[d.index] for d in row)
    means = batch_stats.means(host.info.counts())
    assert means["data/dropped"].total == means["data/bad"].total == 0


def test_a_bad_record_is_a_counted_hole_and_nothing_shifts(tmp_path):
  stored = [
    made.schema.Stored(record=recorded.record("drawing", i)) for i in range(9)
  ]
  measure = made.Measure.of(TOKENIZER)
  folder = made.dataset(tmp_path / "d", stored, 1, measure)
  phases = (neutral.phase({"d": 1}),)

  def opened():
    c = recorded.config({"d": f"records:{folder}"}, mixture=((0.0, {"d": 1}),))
    source = build_data.batches(sections.plain(c), "3_quality")
    return _open(dataclasses.replace(source.config, phases=phases))

  sound = [opened()[step] for step in range(4)]
  path = folder / "part-00000.array_record"
  data = bytearray(path.read_bytes())
  at = data.find(stored[4].record.picture[:200])
  data[at + 20 : at + 60] = bytes(40)
  path.write_bytes(data)
  bad = 0
  source = opened()
  for step, before in enumerate(sound):
    after = source[step]
    holes = [f"d/{e}/4" for e in range(9)]
    assert after.info.ids == tuple(
      tuple(x for x in row if x not in holes) for row in before.info.ids
    )
    assert after.info.drawn == before.info.drawn
    bad += len(after.info.bad)
    lost = before.info.drawn - sum(map(len, after.info.ids))
    assert lost == len(after.info.bad)
    assert all(b.where == f"{path}[4]" for b in after.info.bad)
  assert bad


def test_lengths_that_lie_cost_a_sample_and_not_the_batch(config, tmp_path):
  """Side files that say less than is there."""
  folder = recorded.folder(tmp_path / "u", "understanding", 8)
  card = Card.load(folder)
  for shard in card.shards:
    lengths = Lengths.load(folder / shard.lengths)
    short = dataclasses.replace(
      lengths, turn_tokens=np.minimum(lengths.turn_tokens, 1)
    )
    short.save(folder / shard.lengths)
  changed = dataclasses.replace(
    config,
    sources={"u": f"records:{folder}"},
    phases=(neutral.phase({"u": 1}),),
  )
  info = _open(changed)[0].info
  reasons = {d.reason for d in info.packed.dropped}
  assert reasons and all("emma-data lengths" in r for r in reasons)
  assert len(info.unusable) == len(info.packed.dropped)
  assert sum(map(len, info.ids)) > 0


@pytest.mark.parametrize("hosts", [1, 2])
def test_what_no_row_holds_is_counted_by_one_host(config, hosts, monkeypatch):
  real = plan_lib.Plan.batch
  monkeypatch.setattr(
    plan_lib.Plan, "batch", lambda plan, n: (*real(plan, n)[:2], 3)
  )
  counts = [_open(config, i, hosts)[0].info.num_oversized for i in range(hosts)]
  assert counts == [3, 0][:hosts]


def test_workers_get_no_lengths(config):
  source = _open(config)
  assert source.plan.drawer.tables  # loaded here
  assert len(pickle.dumps(source)) < 200_000
  assert b"turn_tokens" not in pickle.dumps(source)


def _buckets(sizes) -> dict:
  """A change of a config: its framing with other buckets."""
  return dict(
    framing=neutral.framing(buckets=tuple(sizes), height=32, width=64)
  )


@pytest.mark.parametrize(
  "change, words",
  [
    (dict(samples_per_batch=3), "need lengths: set samples_per_batch=0"),
    (_buckets((32, 32 * n) for n in range(1, 10)), "at most 8"),
    (_buckets([(30, 64)]), "height=30 is not a positive multiple"),
    (
      dict(
        sources={
          "drawing": "world:drawing:train",
          "editing": "",
          "understanding": "",
        }
      ),
      "does not open",
    ),
  ],
)
def test_mistakes_are_named(config, change, words):
  with pytest.raises(ValueError, match=words):
    _open(dataclasses.replace(config, **change))


def test_sources_must_have_lengths_of_this_tokenizer(config, tmp_path):
  world = dataclasses.replace(
    config,
    sources={"d": "world:drawing:train"},
    phases=(neutral.phase({"d": 1}),),
  )
  with pytest.raises(ValueError, match="no lengths to plan by; convert it"):
    _open(world)
  folder = made.dataset(tmp_path / "d", made.samples()[:1])
  other = dataclasses.replace(
    config,
    sources={"d": f"records:{folder}"},
    phases=(neutral.phase({"d": 1}),),
  )
  with pytest.raises(ValueError, match="emma-data lengths .*/d --tokenizer"):
    _open(other)
  narrow = dataclasses.replace(
    config, layout=dataclasses.replace(config.layout, targets=0)
  )
  with pytest.raises(
    ValueError,
    match="'drawing' fits into a row: they need "
    r"more targets \(6 of 6 records\)",
  ):
    _open(narrow)


def test_the_tables_order_is_that_of_the_phases_and_all_are_counted(config):
  """ObservedMixture shares of the log: by source, summed over steps."""
  source, realised = _open(config), batch_stats.ObservedMixture()
  for step in range(8):
    realised.add(source[step].info.counts())
  shares = realised.shares()
  assert len(shares) == 6
  assert sum(shares[f"realised/{n}"] for n in recorded.COUNTS) == 1
  other = batch_stats.ObservedMixture()
  other.restore(json.loads(json.dumps(realised.state())))
  assert other.shares() == shares
