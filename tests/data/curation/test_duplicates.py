"""Duplicates: exact ones, near ones, over sets; against brute force."""

import io
import json

import numpy as np
from PIL import Image, ImageDraw
import pytest

from emma_jax.data.curation import duplicates, hashes, thumbnails
from emma_jax.data.ingest import job as job_lib
from emma_jax.data.records import schema
from emma_jax.structs import Drawing, Editing, Understanding
from tests.data import made
from tests.data.curation import common


def _picture(seed: int, y: int = 96, x: int = 128) -> Image.Image:
  """Smooth blobs: a picture whose hash has all its bits from content."""
  rng = np.random.default_rng(seed)
  small = rng.integers(0, 256, (6, 8, 3), np.uint8)
  return Image.fromarray(small).resize((x, y), Image.Resampling.BICUBIC)


def _save(image: Image.Image, kind: str = "PNG", **options) -> bytes:
  out = io.BytesIO()
  image.save(out, kind, **options)
  return out.getvalue()


def _drawings(*pictures: bytes, prefix: str = "") -> list[schema.Stored]:
  return [
    schema.Stored(record=Drawing(prompt="a", picture=p, id=f"{prefix}{i}"))
    for i, p in enumerate(pictures)
  ]


def _dedup(**more) -> duplicates.Dedup:
  return duplicates.Dedup(base=common.recipe(), **more)


@pytest.mark.parametrize("count, radius", [(2, 0), (40, 3), (40, 8), (40, 20)])
def test_all_near_pairs_and_no_others(count: int, radius: int):
  rng = np.random.default_rng(count + radius)
  hashes_BP = rng.integers(0, 2**63, (count, 2), np.uint64)
  groups_B = rng.integers(0, 2, count).astype(np.uint64)
  for i in range(1, count, 2):  # a neighbour at 0 to 2r bits of the one before
    flips = rng.permutation(128)[: rng.integers(0, 2 * radius + 1)]
    hashes_BP[i], groups_B[i] = hashes_BP[i - 1], groups_B[i - 1]
    for flip in flips:
      hashes_BP[i, flip // 64] ^= np.uint64(1 << int(flip % 64))
  found = {
    tuple(sorted(p))
    for block in hashes.near_pairs(hashes_BP, groups_B, radius)
    for p in block.tolist()
  }
  wanted = set()
  for i in range(count):
    for j in range(i):
      bits = sum(
        bin(int(a) ^ int(b)).count("1")
        for a, b in zip(hashes_BP[i], hashes_BP[j])
      )
      if bits <= radius and groups_B[i] == groups_B[j]:
        wanted.add((j, i))
  assert found == wanted and (wanted or radius == 0)


def test_tables_grow_with_the_number_of_hashes():
  """Runs of equal keys stay short: bits of a key are at least log2(count)."""
  for count in (2, 1000, 10**6, 10**8):
    for radius in range(0, 9):
      bands, chosen = hashes._cut(count, radius)
      assert bands - chosen == radius
      assert chosen == 4 or 64 * chosen / bands >= np.log2(count)


@pytest.mark.parametrize("kind", hashes.KINDS)
def test_hashes_stand_a_copy_and_tell_others_apart(kind: str):
  hash_of = lambda image: hashes.perceptual(np.asarray(image), kind)
  for seed in range(8):
    image = _picture(seed)
    one = hash_of(image)
    copies = [
      image.resize((64, 48)),
      image.resize((300, 225)),
      Image.open(io.BytesIO(_save(image, "JPEG", quality=60))),
      Image.eval(image, lambda v: int(0.9 * v + 10)),
    ]
    for copy in copies:
      assert bin(one ^ hash_of(copy)).count("1") <= 5
    assert bin(one ^ hash_of(_picture(seed + 100))).count("1") > 10
  assert hash_of(Image.new("RGB", (64, 64), "red")) is None


def test_hashes_of_pictures_are_what_they_were():
  """Signatures that are on disk are compared with those of today."""
  y, x = np.mgrid[:90, :120]
  waves = np.stack(
    [(y * y + 3 * x) % 256, (5 * y + x * x) % 256, (7 * x) % 256], -1
  ).astype(np.uint8)
  assert hashes.perceptual(waves, "dhash") == 0xCB9A5252D69B5254
  assert hashes.perceptual(waves, "phash") == 0x810C4B085FFF4B5E
  ramp = np.repeat((2 * x)[..., None], 3, -1).astype(np.uint8)
  assert hashes.perceptual(ramp, "dhash") == 2**64 - 1  # brighter to the right
  # A standard deviation below two levels is of one colour.
  step = np.where(x[..., None] < 60, np.uint8(0), np.uint8([1, 1, 1]))
  assert hashes.perceptual(3 * step, "dhash") is None
  # Equal neighbours, and what a level parts, do not rise: at the step one does.
  assert hashes.perceptual(5 * step, "dhash") == 0x1818181818181818


def test_over_sets_with_every_kind_of_copy(tmp_path):
  a, b, c = _picture(1), _picture(2), _picture(3)
  one = made.dataset(
    tmp_path / "one",
    _drawings(_save(a), _save(b), _save(Image.new("RGB", (40, 40), "red"))),
  )
  two = made.dataset(
    tmp_path / "two",
    _drawings(
      _save(a, "WEBP", lossless=True),  # other bytes, same pixels
      _save(b.resize((256, 192)), "JPEG", quality=80),  # near, and larger
      _save(c),
      _save(Image.new("RGB", (40, 40), "blue")),
      prefix="x",
    ),
  )
  found, card = common.run(_dedup(), one, two, out=tmp_path / "out", workers=2)
  assert common.ids(found) == ["0", "1", "2", "x2", "x3"]
  assert card.provenance["left out"] == {"duplicate": 2}
  lines = (tmp_path / "out" / duplicates.REPORT).read_text().splitlines()
  same, near = map(json.loads, lines)
  assert same["bits"] == 0 and near["bits"] <= 3
  assert same["where"].endswith("two/part-00000.array_record[0]")
  assert same["same_as"].endswith("one/part-00000.array_record[0]")
  assert common.notes(tmp_path / "out")[0]["reason"] == (
    f"the same as {same['same_as']}"
  )
  kept, _ = common.run(_dedup(keep="largest"), one, two, out=tmp_path / "big")
  assert common.ids(kept) == ["0", "2", "x1", "x2", "x3"]
  kept, _ = common.run(
    _dedup(perceptual="", exact="bytes"), one, two, out=tmp_path / "bytes"
  )
  assert len(kept) == 7


def test_texts_count_for_questions_and_both_pictures_for_edits(tmp_path):
  a, b, c = (_save(_picture(i)) for i in range(3))
  ask = lambda name, q, *p: schema.Stored(
    record=Understanding(pictures=p, turns=((q, "y"),), id=name)
  )
  edit = lambda name, s, t: schema.Stored(
    record=Editing(sources=(s,), instruction=name, target=t, id=name)
  )
  folder = made.dataset(
    tmp_path / "set",
    [
      ask("q", "what?", a),
      ask("other question", "who?", a),
      ask("copy", "what?", a),
      ask("text", "what?"),
      ask("text 2", "what?"),
      ask("text 3", "who?"),
      edit("e", a, b),
      edit("other target", a, c),
      edit("other words", a, b),
    ],
  )
  found, _ = common.run(_dedup(), folder, out=tmp_path / "out")
  assert common.ids(found) == [
    "q",
    "other question",
    "text",
    "text 3",
    "e",
    "other target",
    "other words",
  ]
  found, _ = common.run(
    _dedup(text="questions"), folder, out=tmp_path / "questions"
  )
  assert common.ids(found) == [
    "q",
    "other question",
    "text",
    "text 3",
    "e",
    "other target",
  ]
  found, _ = common.run(_dedup(text="never"), folder, out=tmp_path / "never")
  assert common.ids(found) == ["q", "text", "text 3", "e", "other target"]


def _scene(colour: str, x: int = 32, y: int = 32) -> Image.Image:
  """A thing on white, as the world draws them."""
  image = Image.new("RGB", (96, 96), "white")
  ImageDraw.Draw(image).ellipse((x - 14, y - 14, x + 14, y + 14), fill=colour)
  return image


def test_thumbnails_tell_shapes_and_sizes_of_small_things():
  """Which few bits of a hash tell, and no near-copy differs so much."""
  square = Image.new("RGB", (96, 96), "white")
  ImageDraw.Draw(square).rectangle((19, 19, 45, 45), fill="red")
  smaller = Image.new("RGB", (96, 96), "white")
  ImageDraw.Draw(smaller).ellipse((21, 21, 43, 43), fill="red")
  scene = _scene("red")
  copies = [
    Image.open(io.BytesIO(_save(scene, "JPEG", quality=75, subsampling=0))),
    scene.resize((144, 144)),
    scene.resize((48, 48)),
  ]
  thumbs = lambda images: np.stack(
    [thumbnails.thumbnail(np.asarray(image)) for image in images]
  )
  one = thumbs([scene])[0]
  others = thumbnails.apart(one, thumbs([square, smaller, _scene("brown")]))
  assert others.min() > 1.5 * thumbnails.TOLERANCE
  assert thumbnails.apart(one, thumbs(copies)).max() <= thumbnails.TOLERANCE
  assert thumbnails.apart(one, one[None]).tolist() == [0]


@pytest.mark.parametrize("kind", hashes.KINDS)
def test_other_colours_and_places_are_no_duplicates_whatever_is_said(
  tmp_path, kind: str
):
  scenes = [_scene("red"), _scene("blue"), _scene("red", 64), _scene("green")]
  pictures = list(map(_save, scenes))
  edits = [
    schema.Stored(
      record=Editing(
        sources=(pictures[0],), instruction="change it", target=p, id=f"e{i}"
      )
    )
    for i, p in enumerate(pictures[1:])
  ]
  folder = made.dataset(tmp_path / "set", [*_drawings(*pictures), *edits])
  found, _ = common.run(
    _dedup(text="never", perceptual=kind, radius=8), folder, out=tmp_path / "o"
  )
  assert len(found) == len(pictures) + len(edits)


def test_a_hash_of_few_bits_is_no_evidence():
  """Of a plain picture, of a dot on it, of noise on it: in any colour."""
  rng = np.random.default_rng(0)
  for colour in ("white", "black", "red", "grey"):
    dot = Image.new("RGB", (96, 96), colour)
    ImageDraw.Draw(dot).rectangle((40, 40, 47, 47), fill="yellow")
    noisy = Image.open(io.BytesIO(_save(dot, "JPEG", quality=40)))
    grain = np.asarray(dot) // 2 + rng.integers(0, 9, (96, 96, 1), np.uint8)
    for image in (dot, noisy, grain):
      assert hashes.words(np.asarray(image), "dhash") is None
  assert hashes.words(np.asarray(_picture(0)), "dhash") is not None


def test_colour_is_in_the_hash():
  red, blue = (np.asarray(_scene(c)) for c in ("red", "blue"))
  distance = (hashes.tints(red) ^ hashes.tints(blue)).bit_count()
  assert distance >= 4
  grey = np.repeat(np.asarray(_picture(1).convert("L"))[..., None], 3, -1)
  assert hashes.tints(grey) == 0


def test_who_goes_looks_like_the_one_that_stays():
  """Equal hashes alone take nobody along where pictures are looked at."""
  n = 6
  look = lambda rows: thumbs[rows][:, None]
  side = thumbnails.SIDE
  thumbs = np.zeros((n, side, side, 3), np.uint8)
  thumbs[[1, 4], 3, 3] = 200  # one thing more
  thumbs[5] += thumbnails.TOLERANCE
  near = np.array([9, 9, 9, 8, 8, 9], np.uint64)
  kept_by, far = duplicates.duplicates(
    np.arange(n).astype(np.uint64),
    np.zeros(n, np.uint64),
    np.repeat(near, 2),
    np.full(n, 2),
    np.arange(n),
    3,
    look,
  )
  assert kept_by.tolist() == [0, 1, 0, 0, 1, 0]
  assert far.tolist() == [0, 0, 0, 2, 2, 0]


@pytest.mark.parametrize(
  "wrong", [{"text": "auto"}, {"exact": "hash"}, {"radius": 32}]
)
def test_settings_that_nobody_knows(wrong):
  with pytest.raises(job_lib.ConversionError, match=next(iter(wrong))):
    _dedup(**wrong)


def test_who_goes_is_near_one_that_stays_and_those_are_far_apart():
  """No drift along chains: 0 - 1 - 2 with 2 bits a step, radius 3."""
  n = 60
  rng = np.random.default_rng(0)
  near = [int(rng.integers(2**63))]
  for i in range(1, n):
    flips = rng.permutation(64)[:2]
    near.append(
      near[-1] ^ sum(1 << int(f) for f in flips)
      if i % 10
      else int(rng.integers(2**63))
    )
  near = np.array(near, np.uint64)
  exact = rng.integers(0, 2**63, n).astype(np.uint64)
  exact[17] = exact[3]
  kept_by, far = duplicates.duplicates(
    exact,
    np.zeros(n, np.uint64),
    near,
    np.ones(n, np.int32),
    np.arange(n),
    radius=3,
  )
  stays = np.flatnonzero(kept_by == np.arange(n))
  bits = lambda a, b: bin(int(near[a]) ^ int(near[b])).count("1")
  assert all(bits(a, b) > 3 for a in stays for b in stays if a < b)
  for row in set(range(n)) - set(stays.tolist()) - {17}:
    assert kept_by[row] in stays and bits(row, kept_by[row]) == far[row] <= 3
  assert kept_by[17] == kept_by[3] and 10 < stays.size < n - 10


def test_many_of_one_hash_cost_no_pairs():
  """And they go with the one that stands for them."""
  n = 20_000
  near = np.zeros(n, np.uint64)
  near[n // 2 :] = 7  # three bits away
  exact = np.arange(n).astype(np.uint64)
  exact[-1] = exact[-2]
  arguments = (np.zeros(n, np.uint64), near, np.ones(n, np.int32), np.arange(n))
  kept_by, far = duplicates.duplicates(exact, *arguments, radius=3)
  assert not kept_by.any()
  assert not far[: n // 2].any() and (far[n // 2 :] == 3).all()
  kept_by, far = duplicates.duplicates(exact, *arguments, radius=2)
  assert set(kept_by.tolist()) == {0, n // 2} and not far.any()


def test_an_interrupted_pass_keeps_its_signatures(tmp_path, monkeypatch):
  pictures = [_save(_picture(i % 5)) for i in range(8)]
  folder = made.dataset(tmp_path / "set", _drawings(*pictures), shards=4)
  real, calls = duplicates.sign, []

  def third_fails(part, *arguments):
    calls.append(part.first)
    if len(calls) == 3:
      raise KeyboardInterrupt
    real(part, *arguments)

  monkeypatch.setattr(duplicates, "sign", third_fails)
  more = {"out": tmp_path / "out", "rows_per_shard": 2}
  with pytest.raises(KeyboardInterrupt):
    common.run(_dedup(), folder, **more)
  found, _ = common.run(_dedup(), folder, **more)
  assert calls == [0, 2, 4, 4, 6] and len(found) == 5
