"""Everyone who shows a model pictures frames them alike, whatever their size.

Training, latents made beforehand, sampling (which evaluation asks) and the
exported PyTorch file.
"""

import dataclasses
import json
from typing import Any

import numpy as np
import pytest

from emma_jax.build import data as build_data
from emma_jax.build import latents as build_latents
from emma_jax.build import sections
from emma_jax.build import session as build_session
from emma_jax.data.batching import row_cost
from emma_jax.data.pictures.framing import Framing
from emma_jax.data.pictures.images import BadRecord
from emma_jax.data.records.lengths import Length, Lengths
from emma_jax.data.transforms import Picture, ToSample
from emma_jax.structs import STEM_UNKNOWN, Drawing, Editing, Understanding
from tests import tiny

COUNT = 200
BUCKETS = ((64, 64), (64, 96), (96, 64), (32, 96))
RULES: dict[str, dict[str, Any]] = {
  "cover": dict(fit="cover"),
  "cover, buckets": dict(fit="cover", buckets=BUCKETS),
  "pad, buckets": dict(fit="pad", buckets=BUCKETS),
  "pad_learned": dict(fit="pad_learned"),
  "native": dict(
    fit="cover", buckets=BUCKETS, native=True, min_tokens=2, max_tokens=9
  ),
}


def _config(rule: str) -> dict[str, Any]:
  c = tiny.config()
  c.data.update(RULES[rule], max_crop=0.97)
  c.stages = {"s": {"und_patches": 36}} if c.data.native else {}
  return sections.plain(c)


def _pictures() -> list[np.ndarray]:
  """Of 200 sizes, prime or odd; as wide as a panorama, as tall as a door."""
  rng = np.random.default_rng(7)
  sizes = np.rint(2 ** rng.uniform(3.6, 7.6, (COUNT, 2))).astype(int) | 1
  return [rng.integers(0, 256, (y, x, 3), np.uint8) for y, x in sizes]


def _trained(config: dict, to_samples: list[ToSample], role: str, picture):
  """As the samples of a plan are made, each for its bucket."""
  task = {"und": "understanding", "ref": "editing", "target": "drawing"}[role]
  size = picture.shape[:2]
  length = Length(
    task=task,
    stem=STEM_UNKNOWN,
    weight=1.0,
    turn_tokens=((1, 1),),
    sizes=(size, size) if role == "ref" else (size,),
  )
  framing = build_data.framing(config["data"])
  (bucket,) = row_cost.bucket_of(
    Lengths.of([length], ""), framing.sizes, framing.understanding.native
  )
  record = {
    "und": Understanding(pictures=(picture,), turns=(("red", "red"),)),
    "ref": Editing(sources=(picture,), instruction="red", target=picture),
    "target": Drawing(prompt="red", picture=picture),
  }[role]
  sample = to_samples[max(bucket, 0)](record)
  return next(
    part.pixels_YXC
    for part in sample.parts
    if isinstance(part, Picture) and part.role == role
  )


def _sized(to_sample: ToSample, framing: Framing) -> list[ToSample]:
  return [to_sample.sized(y, x) for y, x in framing.sizes]


@pytest.mark.parametrize("rule", RULES)
def test_all_see_the_same_pixels(rule):
  config = _config(rule)
  framing = build_data.framing(config["data"])
  trained = _sized(build_data.to_sample(config["data"], training=True), framing)
  encoded = build_latents.encoder(
    config, {}, dtype="float32", pixels=1, threads=1
  ).to_sample
  requests = build_session.requests(config)
  assert requests.to_sample.framing == framing
  seen = set()
  for picture in _pictures():
    for role in ("und", "ref", "target"):
      want = _trained(config, trained, role, picture)
      seen.add(want.shape)
      latents = _trained(config, list(encoded), role, picture)
      (sampled,) = requests.fit([picture], role)
      np.testing.assert_array_equal(latents, want)
      np.testing.assert_array_equal(sampled.pixels_YXC, want)
  assert len(seen) >= (len(BUCKETS) if "buckets" in RULES[rule] else 1)


@pytest.mark.parametrize("rule", RULES)
def test_further_sources_have_the_size_of_the_first(rule):
  """As in training, where the result has the shape of the first."""
  config = _config(rule)
  framing = build_data.framing(config["data"])
  trained = _sized(build_data.to_sample(config["data"], training=True), framing)
  requests = build_session.requests(config)
  first, *others = _pictures()
  for other in others[:50]:
    bucket = framing.sizes.index(framing.nearest(*first.shape[:2]).sizes[0])
    edit = Editing(sources=(first, other), instruction="red", target=first)
    try:
      parts = trained[bucket](edit).parts
    except BadRecord as error:  # max_crop
      with pytest.raises(BadRecord, match=r"would lose \d+%"):
        requests.fit_sources([[first, other]])
      assert "would lose" in error.reason
      continue
    want = [p.pixels_YXC for p in parts if getattr(p, "role", "") == "ref"]
    (fitted,) = requests.fit_sources([[first, other]])
    for mine, theirs in zip(fitted, want, strict=True):
      np.testing.assert_array_equal(mine.pixels_YXC, theirs)


def _exported(config: dict) -> dict:
  """The section of an export's config.json."""
  found = build_session.framing(config)
  return json.loads(json.dumps(dataclasses.asdict(found)))


@pytest.mark.parametrize("rule", RULES)
def test_the_exported_file_sees_the_same_pixels(rule):
  pytest.importorskip("torch")
  from emma_jax.convert.emma_torch import pictures as theirs

  config = _config(rule)
  shown = _exported(config)
  requests = build_session.requests(config)
  pictures = _pictures()
  for picture in pictures:
    for role in ("und", "ref"):
      (want,) = requests.fit([picture], role)
      made, content, original = theirs.fit(picture, shown, role)
      np.testing.assert_array_equal(made, want.pixels_YXC)
      assert content == want.content_size
      assert original == want.original_size
    size = picture.shape[:2]
    drawn = theirs.drawn_size(*size, shown)
    assert drawn == requests.drawn_size(*size)
    try:
      ((first, want),) = requests.fit_sources([[pictures[0], picture]])
    except BadRecord:  # max_crop: see below
      continue
    bucket = first.pixels_YXC.shape[:2]
    made, *_ = theirs.fit(picture, shown, "ref", bucket)
    np.testing.assert_array_equal(made, want.pixels_YXC)


def test_a_frame_that_loses_too_much_is_refused_by_the_exported_file():
  pytest.importorskip("torch")
  from emma_jax.convert.emma_torch import pictures as theirs

  config = _config("cover")
  shown = _exported(config | {"data": config["data"] | {"max_crop": 0.25}})
  with pytest.raises(ValueError, match=r"would lose \d+%.* max_crop=0.25"):
    theirs.fit(np.zeros((32, 200, 3), np.uint8), shown, "ref")
