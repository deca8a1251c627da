"""Resumed equals uninterrupted; corrupt records are counted, nothing shifts."""

import dataclasses
import hashlib
import json

import jax
import numpy as np
from PIL import Image
import pytest

from emma_jax.data.loading import batch_stats, dataset
from emma_jax.data.pictures.images import BadRecord
from emma_jax.data.text.tokenizer import TinyTokenizer
from emma_jax.structs import Drawing
from tests import neutral

TOKENIZER = TinyTokenizer(["red"])
CONFIG = neutral.data_config(
  seed=0,
  sources={
    "und": "world:understanding:train",
    "draw": "world:drawing:train",
    "edit": "world:editing:train",
  },
  phases=(neutral.phase({"und": 1, "draw": 1, "edit": 1}),),
  samples_per_batch=12,
  layout=neutral.layout(
    rows=4,
    und_tokens=256,
    und_pictures=1,
    references=1,
    targets=2,
    height=96,
    width=96,
  ),
  framing=neutral.framing(height=96, width=96),
)


def _hash(tree) -> str:
  out = hashlib.sha256()
  for leaf in jax.tree.leaves(tree):
    out.update(f"{leaf.dtype}{leaf.shape}".encode())
    out.update(np.ascontiguousarray(leaf).tobytes())
  return out.hexdigest()


@pytest.fixture(scope="module")
def source() -> dataset.BatchDataset:
  return dataset.open_pipeline(CONFIG, TOKENIZER)


@pytest.fixture
def files(tmp_path) -> str:
  """Ten drawings; lines 3 and 7 are broken in two ways."""
  rows = []
  for i in range(10):
    Image.new("RGB", (40, 30), (i * 20, 0, 0)).save(tmp_path / f"{i}.png")
    rows.append(json.dumps({"image": f"{i}.png", "caption": f"no {i}"}))
  rows[2] = "{"
  (tmp_path / "6.png").write_bytes(b"broken")
  path = tmp_path / "rows.jsonl"
  path.write_text("\n".join(rows))
  return f"jsonl:{path}"


@pytest.mark.parametrize("start, threads", [(0, 0), (1, 2), (3, 1)])
def test_a_resumed_stream_equals_the_uninterrupted_one(source, start, threads):
  whole = [_hash(source[step].batch) for step in range(5)]
  assert len(set(whole)) == 5
  with dataset.stream(source, start, threads=threads, buffer=2) as batches:
    for step in range(start, 5):
      assert batches.step == step
      assert _hash(next(batches).batch) == whole[step]


def test_worker_processes_change_nothing(source):
  with dataset.stream(source, 2, num_workers=2, buffer=1) as batches:
    for step in range(2, 6):
      out = next(batches)
      assert out.info.step == step
      assert _hash(out.batch) == _hash(source[step].batch)


def test_hosts_hold_slices_of_the_same_batch(source):
  whole = source[3].batch
  parts = [
    dataset.open_pipeline(CONFIG, TOKENIZER, shard_index=i, shard_count=2)[3]
    for i in range(2)
  ]
  joined = jax.tree.map(
    lambda *x: np.concatenate(x), *(part.batch for part in parts)
  )
  assert _hash(joined) == _hash(whole)
  with pytest.raises(ValueError, match="multiple of 3"):
    dataset.open_pipeline(CONFIG, TOKENIZER, shard_index=0, shard_count=3)


class Counted:
  """A source that counts what is read of it."""

  def __init__(self, source):
    self.source, self.read = source, []

  def __len__(self):
    return len(self.source)

  def __getitem__(self, index):
    self.read.append(index)
    return self.source[index]


@pytest.mark.parametrize("hosts", [1, 2, 4])
def test_hosts_read_only_their_parts_of_one_stream(hosts):
  """And what they count adds up to what one host counts."""
  config = dataclasses.replace(CONFIG, packing_groups=4)
  alone = dataset.open_pipeline(config, TOKENIZER)[2]
  batches, counts, read = [], [], []
  for i in range(hosts):
    source = dataset.open_pipeline(
      config, TOKENIZER, shard_index=i, shard_count=hosts
    )
    opened = {n: Counted(s) for n, s in source._opened.items()}
    out = dataset.BatchDataset(config, TOKENIZER, opened, i, hosts)[2]
    batches.append(out.batch)
    counts.append(out.info.counts())
    read.append(sum(len(s.read) for s in opened.values()))
  joined = jax.tree.map(lambda *x: np.concatenate(x), *batches)
  assert _hash(joined) == _hash(alone.batch)
  sums = {key: sum(c[key] for c in counts) for key in counts[0]}
  assert sums == alone.info.counts() and sums["drawn"] == 12
  assert read == [12 // hosts] * hosts
  assert alone.info.packed.fill == sums["tokens"] / sums["slots"]


def test_a_part_of_two_hosts_is_counted_once():
  one = dataset.open_pipeline(CONFIG, TOKENIZER)[2].info.counts()
  two = [
    dataset.open_pipeline(CONFIG, TOKENIZER, shard_index=i, shard_count=2)[
      2
    ].info.counts()
    for i in range(2)
  ]
  assert two[0] == one and not any(two[1].values())
  copy = dataset.open_pipeline(CONFIG, TOKENIZER, counted=False)[2]
  assert not any(copy.info.counts().values())


def test_parts_must_divide_rows_and_samples():
  with pytest.raises(ValueError, match="multiples of data.packing_groups=3"):
    dataclasses.replace(CONFIG, packing_groups=3)


def _of_files(spec: str, **kw) -> dataset.DataConfig:
  layout = dataclasses.replace(CONFIG.layout, targets=9)
  return dataclasses.replace(
    CONFIG,
    sources={"web": spec},
    phases=(neutral.phase({"web": 1}),),
    samples_per_batch=10,
    layout=layout,
    text_dropout=0.0,
    **kw,
  )


def test_corrupt_records_are_holes_and_are_counted(files):
  source = dataset.open_pipeline(_of_files(files), TOKENIZER)
  for step in range(3):  # every step is one epoch
    out = source[step]
    where = sorted(bad.where.rsplit(":", 1)[1] for bad in out.info.bad)
    assert where == ["3", "7"]
    reasons = " ".join(reason for _, reason in out.info.bad)
    assert "no JSON" in reasons and "cannot read the picture" in reasons
    assert out.info.packed.samples_per_task == {"drawing": 8}
    # The others stand at the places the plan gives them.
    plan = source.mixture.batch_plan(step)
    placed = [i for row in out.info.packed.placed for i in row]
    assert [plan[i].index for i in placed] == [
      d.index for d in plan if d.index not in (2, 6)
    ]
    for picture_YXC, i in zip(out.batch.gen_pixels_BMYXC[0], placed):
      assert abs(int(picture_YXC[0, 0, 0]) - plan[i].index * 20) <= 1


def test_the_fuse_blows_with_the_places(files):
  config = _of_files(files, max_bad_share=0.1, min_samples=20)
  source = dataset.open_pipeline(config, TOKENIZER)
  fuse = dataset.BadSampleLimit(config.max_bad_share, config.min_samples)

  def add(fuse: dataset.BadSampleLimit, info: dataset.BatchStats):
    fuse.see(info.unusable)
    fuse.add(info.drawn, len(info.unusable))

  add(fuse, source[0].info)
  with pytest.raises(dataset.TooManyBadRecords, match="4 of the last 20") as e:
    add(fuse, source[1].info)
  assert "rows.jsonl:3: no JSON" in str(e.value)
  calm = dataset.BadSampleLimit(0.3, 20)
  for step in range(5):
    add(calm, source[step].info)
  assert (calm.seen, calm.bad) == (50, 10)


def test_a_good_past_does_not_hide_a_bad_present():
  fuse = dataset.BadSampleLimit(0.2, 100)
  fuse.add(100_000, 0)
  for _ in range(20):
    fuse.add(100, 0)
  with pytest.raises(dataset.TooManyBadRecords):
    for _ in range(20):
      fuse.add(100, 100)


def test_a_restored_fuse_goes_on_where_it_was():
  one, two = dataset.BadSampleLimit(0.5, 10), dataset.BadSampleLimit(0.5, 10)
  one.see([dataset.Bad("f:1", "torn")])
  one.add(9, 5)
  two.restore(json.loads(json.dumps(one.state())))
  for fuse in (one, two):
    with pytest.raises(dataset.TooManyBadRecords, match="10 of the last 18"):
      fuse.add(9, 5)
  assert one.state() == two.state()


def test_info_gives_means(source):
  info = source[0].info
  means = {
    name: mean.total / mean.count
    for name, mean in batch_stats.means(info.counts()).items()
  }
  assert means["data/fill"] == info.packed.fill
  assert means["data/bad"] == means["data/dropped"] == 0
  assert means["data/understanding"] == means["data/drawing"] == 4 / 12


def test_native_pictures_of_the_layouts_size_are_as_good():
  native = neutral.preprocess(height=32, width=32, native=True)
  framing = dataclasses.replace(CONFIG.framing, understanding=native)
  config = dataclasses.replace(CONFIG, framing=framing)
  one, two = (
    dataset.open_pipeline(c, TOKENIZER)[1].batch for c in (config, CONFIG)
  )
  assert _hash(one) == _hash(two)


class _Flaky:
  """A source without lines; odd elements are broken."""

  def __len__(self) -> int:
    return 100

  def __getitem__(self, index: int) -> Drawing:
    if index % 2:
      raise BadRecord("", "odd")
    return Drawing(prompt="x", picture=np.zeros((96, 96, 3), np.uint8), id="d")


def test_any_source_may_raise():
  config = _of_files("world:drawing:train")
  source = dataset.BatchDataset(config, TOKENIZER, {"web": _Flaky()})
  assert [b.where for b in source[0].info.bad] == [
    f"web[{i}]" for i in (1, 3, 5, 7, 9)
  ]


def test_samples_too_large_for_every_row_count_as_unusable(files):
  config = _of_files(files)
  layout = dataclasses.replace(config.layout, und_tokens=8)
  with pytest.raises(ValueError, match="'web' needs .* raise layout.und_to"):
    dataset.open_pipeline(dataclasses.replace(config, layout=layout), TOKENIZER)


@pytest.mark.parametrize(
  "change, match",
  [
    (dict(phases=(neutral.phase({"nix": 1}),)), "names the source 'nix'"),
    (
      dict(sources={"und": "jsonl:/nowhere", "draw": "", "edit": ""}),
      "'und' does not open",
    ),
    (
      dict(layout=dataclasses.replace(CONFIG.layout, targets=0)),
      "raise layout.targets",
    ),
    (
      dict(layout=dataclasses.replace(CONFIG.layout, references=0)),
      "raise layout.references",
    ),
    (
      dict(layout=dataclasses.replace(CONFIG.layout, und_pictures=0)),
      "raise layout.und_pictures",
    ),
    (
      dict(layout=dataclasses.replace(CONFIG.layout, height=64)),
      "framing makes pictures of 96x96",
    ),
    (dict(max_bad_share=2), "max_bad_share=2"),
    (dict(prefetch_batches=-1), "prefetch_batches=-1"),
  ],
)
def test_mistakes_are_found_at_the_start(change, match: str):
  with pytest.raises(ValueError, match=match):
    dataset.open_pipeline(dataclasses.replace(CONFIG, **change), TOKENIZER)


def test_dropout_is_seeded_by_the_place_in_the_stream(source):
  always = dataclasses.replace(CONFIG, text_dropout=0.5)
  one = dataset.open_pipeline(always, TOKENIZER)
  two = dataset.open_pipeline(dataclasses.replace(always, seed=1), TOKENIZER)
  assert _hash(one[4].batch.tokens_BU) == _hash(one[4].batch.tokens_BU)
  assert _hash(one[4].batch.tokens_BU) != _hash(two[4].batch.tokens_BU)
  assert _hash(one[4].batch.tokens_BU) != _hash(source[4].batch.tokens_BU)
