"""Hashes change with all that they cover, field by field, and nothing else.

The fields are enumerated: a new one is in no hash until a test here says what
it does.
"""

import dataclasses
import json
import os
from types import SimpleNamespace

import numpy as np
import pytest

from emma_jax.build import data as build_data
from emma_jax.build import sections
from emma_jax.cli.data import hash as hash_command
from emma_jax.data.batching import first_fit, plan, plan_config, row_cost
from emma_jax.data.curation import (
  answers,
  captions,
  client,
  duplicates,
  edits,
  filters,
  generated_text,
  painter,
  proposals,
  selection,
)
from emma_jax.data.curation.base import Construction
from emma_jax.data.curation.text_pictures import TextPictures
from emma_jax.data.ingest import job as job_lib
from emma_jax.data.ingest import part, sequences
from emma_jax.data.pictures import codecs
from emma_jax.data.pictures.preprocess import Preprocess
from emma_jax.data.records import latents, schema
from emma_jax.data.records.card import Card
from emma_jax.data.records.source import RecordsSource
from emma_jax.data.text.tokenizer import TinyTokenizer
from emma_jax.judge.ledger import Price
from tests import neutral, tiny
from tests.data import made, recorded


def names(kind) -> set[str]:
  return {f.name for f in dataclasses.fields(kind)}


def check(value, of, changes: dict, free: dict) -> None:
  """`of` tells each change from `value` and from the others, and no free one.

  changes, free: field -> another value; together all fields of the class.
  """
  assert changes.keys() | free.keys() == names(type(value))
  seen = {json.dumps(of(value)): "as it was"}
  for name, other in changes.items():
    told = json.dumps(of(dataclasses.replace(value, **{name: other})))
    assert told not in seen, f"{name} is not told from {seen[told]}"
    seen[told] = name
  for name, other in free.items():
    assert of(dataclasses.replace(value, **{name: other})) == of(value), name


# ------------------------------------------------------------------- pictures


def test_preprocessing_of_one_size(monkeypatch):
  monkeypatch.setattr(codecs, "libraries", lambda: None)
  check(
    neutral.preprocess(height=64, width=96),
    Preprocess.fingerprint,
    dict(height=32, width=64, native=True, codec="fast", fit="cover"),
    dict(min_tokens=2, max_tokens=99, max_crop=0.5),
  )


def test_preprocessing_of_native_sizes(monkeypatch):
  monkeypatch.setattr(codecs, "libraries", lambda: None)
  check(
    neutral.preprocess(height=64, width=96, native=True),
    Preprocess.fingerprint,
    dict(min_tokens=2, max_tokens=99, native=False, codec="fast"),
    dict(height=32, width=32, fit="cover", max_crop=0.5),
  )


def test_preprocessing_that_crops(monkeypatch):
  monkeypatch.setattr(codecs, "libraries", lambda: None)
  check(
    neutral.preprocess(height=64, width=96, fit="cover", max_crop=0.5),
    Preprocess.fingerprint,
    dict(
      height=32,
      width=64,
      native=True,
      codec="fast",
      fit="pad_cells",
      max_crop=0.25,
    ),
    dict(min_tokens=2, max_tokens=99),
  )


# ----------------------------------------------------------------------- plan

NATIVE = neutral.preprocess(height=64, width=64, native=True)
LAYOUT = neutral.layout(
  rows=2,
  und_tokens=64,
  und_pictures=2,
  references=1,
  targets=1,
  height=64,
  width=64,
  und_patches=32,
)
RULES = row_cost.RowLimits(
  layouts=(LAYOUT,), framing=neutral.framed(NATIVE), max_turns=None
)
SOURCE = plan.PlannedSource(name="a", folder="/a", digest="1")
PLAN = plan.PlanConfig(
  seed=1,
  sources=(SOURCE,),
  phases=(neutral.phase({"a": 1.0}),),
  rules=RULES,
  rows=2,
  segment=5,
)
PIXELS = neutral.preprocess(height=64, width=64)


def test_a_plan():
  check(
    PLAN,
    plan.PlanConfig.fingerprint,
    dict(
      seed=2,
      sources=(dataclasses.replace(SOURCE, digest="2"),),
      phases=(neutral.phase({"a": 2.0}),),
      rows=4,
      segment=6,
      rules=dataclasses.replace(RULES, max_turns=3),
    ),
    {},
  )


def test_a_plans_rules():
  of = lambda rules: dataclasses.replace(PLAN, rules=rules).fingerprint()
  other = dataclasses.replace(LAYOUT, height=32)
  check(
    RULES,
    of,
    dict(
      max_turns=3,
      layouts=(other,),
      framing=neutral.framed(dataclasses.replace(NATIVE, min_tokens=2)),
    ),
    {},
  )
  assert of(dataclasses.replace(RULES, max_turns=3)) != of(
    dataclasses.replace(RULES, max_turns=4)
  )
  both = dataclasses.replace(RULES, layouts=(LAYOUT, other))
  assert (
    len(
      {
        of(RULES),
        of(both),
        of(dataclasses.replace(RULES, layouts=(other, LAYOUT))),
      }
    )
    == 3
  )


def test_a_plans_layout():
  """Rows are those of the plan, not of the layout."""
  of = lambda layout: dataclasses.replace(
    PLAN, rules=dataclasses.replace(RULES, layouts=(layout,))
  ).fingerprint()
  check(
    LAYOUT,
    of,
    dict(
      und_tokens=65,
      und_pictures=3,
      references=2,
      targets=2,
      height=32,
      width=32,
      und_patches=36,
      latent_channels=8,
      fusion="token",
      reference_branch="und",
    ),
    dict(rows=7),
  )


def test_a_plans_native_sizes(monkeypatch):
  monkeypatch.setattr(codecs, "libraries", lambda: None)
  of = lambda p: dataclasses.replace(
    PLAN, rules=dataclasses.replace(RULES, framing=neutral.framed(p))
  ).fingerprint()
  check(
    NATIVE,
    of,
    dict(min_tokens=2, max_tokens=99, fit="cover"),
    dict(height=32, width=32, codec="fast", native=False, max_crop=0.5),
  )
  # Without native pictures, they decide nothing.
  fixed = dataclasses.replace(
    PLAN,
    rules=row_cost.RowLimits(
      layouts=(dataclasses.replace(LAYOUT, und_patches=0),),
      framing=neutral.framed(PIXELS),
      max_turns=None,
    ),
  )
  of = lambda p: dataclasses.replace(
    fixed, rules=dataclasses.replace(fixed.rules, framing=neutral.framed(p))
  ).fingerprint()
  check(
    PIXELS,
    of,
    dict(fit="cover"),
    dict(
      max_crop=0.5,
      min_tokens=2,
      max_tokens=99,
      height=32,
      width=32,
      codec="fast",
      native=True,
    ),
  )


def test_a_plans_sources_and_phases():
  more = lambda *s: dataclasses.replace(PLAN, sources=s).fingerprint()
  other = dataclasses.replace(SOURCE, name="b")
  of = lambda source: more(SOURCE, source)
  check(other, of, dict(name="c", digest="2"), dict(folder="/elsewhere"))
  assert more(SOURCE, other) == more(other, SOURCE) != more(SOURCE)
  of = lambda phase: dataclasses.replace(
    PLAN, sources=(SOURCE, other), phases=(phase,)
  ).fingerprint()
  check(
    PLAN.phases[0],
    of,
    dict(
      weights={"a": 1.0, "b": 1.0},
      steps=3,
      unit="tokens",
      even_buckets=True,
      row={"targets": 7},
    ),
    {},
  )


@pytest.mark.parametrize(
  "module, name",
  [(plan_config, "VERSION"), (first_fit, "WINDOW"), (first_fit, "BATCHES")],
)
def test_a_plans_own_numbers(module, name, monkeypatch):
  before = PLAN.fingerprint()
  monkeypatch.setattr(module, name, getattr(module, name) + 1)
  assert PLAN.fingerprint() != before


# ------------------------------------------------------------ records, latents


def test_the_content_of_a_folder_of_records(tmp_path):
  """Shards and side files, in order; neither its place nor its words."""
  source = RecordsSource(recorded.folder(tmp_path / "a", "drawing", 4))
  before, card = source.digest, source.card
  first, *others = card.shards
  changes = dict(
    records=3,
    sha256="x",
    lengths_sha256="x",
    file=None,
    bytes=None,
    lengths=None,
    tasks=None,
    text_tokens=None,
    pictures=None,
  )
  assert changes.keys() == names(type(first))
  for name, value in changes.items():
    other = dataclasses.replace(first, **{name: value})
    source.card = dataclasses.replace(card, shards=(other, *others))
    assert (source.digest != before) == (value is not None), name
  source.card = dataclasses.replace(card, shards=card.shards[::-1])
  assert source.digest != before
  free = dict(
    name="b",
    tokenizer="x",
    weighted=True,
    rejected=9,
    provenance={"a": 1},
    version=9,
    format="x",
  )
  assert free.keys() | {"shards"} == names(Card)
  source.card = dataclasses.replace(card, **free)
  assert source.digest == before


def _settings(**more) -> latents.Settings:
  return latents.Settings(
    **dict(framing=neutral.framed(NATIVE), autoencoder="a", dtype="float32")
    | more
  )


def _folder(*tasks):
  """Settings -> where the latents of a data set of such tasks lie."""
  card = SimpleNamespace(tasks=dict.fromkeys(tasks, 1))
  return lambda s: latents.folder_of("d", s.of(card))


def test_the_folder_of_latents():
  small = dataclasses.replace(PIXELS, height=32)
  for task in ("understanding", "drawing"):
    check(
      _settings(),
      _folder(task),
      dict(framing=neutral.framed(small), autoencoder="b", dtype="bfloat16"),
      {},
    )


def test_the_folder_of_latents_by_the_framing_of_a_data_sets_tasks():
  small = dataclasses.replace(PIXELS, height=32)
  narrow = dataclasses.replace(NATIVE, max_tokens=9)
  buckets = ((32, 64), (64, 32))
  drawn = dict(generation=small, buckets=buckets)

  def of(*tasks):
    return lambda framing: _folder(*tasks)(_settings(framing=framing))

  framing = _settings().framing
  check(framing, of("understanding"), dict(understanding=narrow), drawn)
  check(framing, of("drawing"), drawn, dict(understanding=narrow))
  check(
    framing,
    of("editing", "understanding"),
    drawn | dict(understanding=narrow),
    {},
  )
  # Pictures of one size go to a bucket, too.
  check(
    dataclasses.replace(framing, understanding=PIXELS),
    of("understanding"),
    dict(understanding=small, buckets=buckets),
    dict(generation=small),
  )


def test_latents_of_a_config():
  """Every key of the autoencoder is in its hash."""
  config = sections.plain(tiny.config())
  model = config["model"]

  def of(**changes):
    sizes = model["autoencoder"] | changes
    return build_data.latent_settings(
      config | {"model": model | {"autoencoder": sizes}}
    ).autoencoder

  seen = {of(), *(of(**{key: "other"}) for key in model["autoencoder"])}
  assert len(seen) == len(model["autoencoder"]) + 1 > 6
  other = config | {
    "model": model | {"dtype": "float64"},
    "data": config["data"] | {"buckets": ((32, 64), (64, 32))},
  }
  assert build_data.latent_settings(other).dtype == "float64"
  assert build_data.latent_settings(other).framing.buckets == (
    (32, 64),
    (64, 32),
  )


# -------------------------------------------------------------- conversions

RECIPE = part.Recipe(form="text_to_image", tokenizer=TinyTokenizer(["red"]))
WHO = answers.Noted("clip")
PAINTER = painter.Painter(url="http://a", model="m", cache="c")
RULE = filters.ScoreRule(name="clip", answers=WHO)


def test_a_recipe():
  check(
    RECIPE,
    part.Recipe.identity,
    dict(
      form="x",
      tokenizer=TinyTokenizer(["blue"]),
      columns={"a": "b"},
      images_dir="/i",
      dataset="d",
      stem=1,
      weight=2.0,
      keep=("k",),
      check="header",
      max_pixels=9,
      max_sources=3,
      allow_outside=True,
      mixed=True,
      options=sequences.Options(data_dir="/d"),
    ),
    {},
  )


def test_a_job(tmp_path):
  file = made.jsonl(tmp_path / "a.jsonl", {"a": 1})
  twin = made.jsonl(tmp_path / "b.jsonl", {"a": 1})
  job = job_lib.Job(inputs=(str(file),), out="o", maker=RECIPE)
  check(
    job,
    job_lib._identity,
    dict(
      inputs=(str(twin),),
      maker=dataclasses.replace(RECIPE, weight=3.0),
      rows_per_shard=7,
      provenance={"licence": "x"},
    ),
    dict(out="p", workers=5, requests=9, max_rejected=0.5, execute=print),
  )
  before = job_lib._identity(job)
  time = os.stat(file).st_mtime_ns
  made.jsonl(file, {"a": 12})
  os.utime(file, ns=(time, time))
  grown = job_lib._identity(job)
  os.utime(file, ns=(time, time + 10**9))
  assert len({before, grown, job_lib._identity(job)}) == 3
  folder = recorded.folder(tmp_path / "r", "drawing", 2)
  records = dataclasses.replace(job, inputs=(f"records:{folder}",))
  before = job_lib._identity(records)
  os.utime(folder / "dataset.json", ns=(1, 1))
  assert job_lib._identity(records) != before


# How a server is called, and what for, is no matter of what it replies.
CALLS = dict(
  cache="d",
  name="other",
  key_env="K",
  timeout=1.0,
  tries=1,
  pause=9.0,
  price=Price(1.0, 2.0),
  ledger="l",
  bill=("a", "b"),
)
CONSTRUCTIONS = [
  (filters.Filter(base=RECIPE, scores=(RULE,)), {}),
  (duplicates.Dedup(base=RECIPE), {"plan": "elsewhere"}),
  (edits.EditPairs(base=RECIPE), {}),
  (selection.Select(base=RECIPE, score=RULE, count=3), {"plan": "elsewhere"}),
  (selection.LabelStem(base=RECIPE), {}),
  (captions.Recaption(base=RECIPE, answers=WHO), {}),
  (captions.AsQuestions(base=RECIPE), {}),
  (captions.Label(base=RECIPE, name="a", answers=WHO), {}),
  (proposals.Propose(base=RECIPE, answers=WHO), {}),
  (proposals.ProposeText(base=RECIPE, answers=WHO), {}),
  (proposals.ApplyEdits(base=RECIPE, painter=PAINTER), {}),
  (generated_text.GenerateText(base=RECIPE, painter=PAINTER), {}),
  (generated_text.CheckText(base=RECIPE, answers=WHO), {}),
]


def _another(value):
  """Of the same kind, roughly: identities only write it down."""
  if isinstance(value, bool):
    return not value
  if isinstance(value, int | float):
    return value + 1
  if isinstance(value, str):
    return value + "x"
  if isinstance(value, tuple):
    return (*value, RULE)
  if isinstance(value, dict):
    return value | {"x": 1}
  return WHO if value is None else dataclasses.replace(RULE, name="other")


@pytest.mark.parametrize(
  "value, free", CONSTRUCTIONS, ids=lambda x: type(x).__name__
)
def test_a_construction_by_all_of_its_settings(value, free):
  of = lambda x: json.dumps(x.identity(), sort_keys=True)
  seen = {of(value)}
  for field in dataclasses.fields(value):
    if field.name in free:
      assert not field.repr
      continue
    other = (
      dataclasses.replace(RECIPE, weight=3.0)
      if field.name == "base"
      else _another(getattr(value, field.name))
    )
    changed = object.__new__(type(value))  # whatever its checks would say
    changed.__dict__.update(value.__dict__ | {field.name: other})
    assert of(changed) not in seen, field.name
    seen.add(of(changed))
  told = value.describe()
  assert told["construction"] == type(value).__name__
  assert type(value) is not Construction
  assert told["settings"].keys() == {
    f.name for f in dataclasses.fields(value) if f.repr
  } - {"base"}


def test_the_rest_that_decides_a_construction(tmp_path):
  check(
    RULE,
    filters.ScoreRule.identity,
    dict(name="x", answers=answers.Noted("other"), minimum=0.0, maximum=0.5),
    {},
  )
  ask = client.Client(url="http://a", model="m", prompt="p", cache="c")
  paint = painter.Painter(url="http://a", model="m", cache="c")
  check(
    paint,
    painter.Painter.identity,
    dict(
      url="http://b",
      model="n",
      side=9,
      known_as="editor",
      options={"size": "64x64"},
    ),
    CALLS | dict(picture_tokens=7),
  )
  check(
    ask,
    client.Client.identity,
    dict(
      url="http://b",
      model="n",
      prompt="q",
      side=9,
      known_as="vlm",
      max_tokens=5,
      options={"top_p": 0.5},
    ),
    CALLS | dict(answer_tokens=7),
  )
  one, two = (made.jsonl(tmp_path / n, {"id": "a"}) for n in ("a", "b"))
  check(
    answers.Precomputed(path=str(one)),
    answers.Precomputed.identity,
    dict(path=str(two)),
    dict(index="elsewhere"),
  )
  pictures = TextPictures(base=RECIPE, found={"latin": (str(one),)})
  others = dataclasses.replace(pictures, found={"latin": (str(two),)})
  assert pictures.identity() != others.identity()


def test_what_is_equal_for_deduplication():
  """Bytes that mean another picture, text or task do not."""
  sign = lambda record, **how: duplicates.Dedup(base=RECIPE, **how).sign(
    SimpleNamespace(stored=schema.Stored(record=record)), "w"
  )[0]
  record = made.samples()[2].record
  wide, high = (made.picture("red", y, x) for y, x in ((20, 30), (30, 20)))
  of = lambda picture, **how: sign(
    dataclasses.replace(record, picture=picture), **how
  )
  assert of(wide, exact="pixels") != of(high, exact="pixels")
  assert of(wide, exact="bytes") != of(high, exact="bytes")
  same = made.picture("red", 20, 30, "BMP")
  assert of(wide, exact="pixels") == of(same, exact="pixels")
  assert of(wide, exact="bytes") != of(same, exact="bytes")


# --------------------------------------------------------------------- stream


def test_a_batch_in_emma_data_hash():
  """Values, dtype, shape and name of every array, and which samples."""

  def of(batch, ids=(("a/0/1",),)):
    host = SimpleNamespace(batch=batch, info=SimpleNamespace(ids=ids))
    return hash_command._digest([host])[0]

  zeros = np.zeros((2, 4), np.int32)
  other = np.arange(8, dtype=np.int32).reshape(2, 4)
  cases = [
    of({"x": zeros}),
    of({"x": zeros.astype(np.uint32)}),
    of({"x": zeros.view(np.float32)}),
    of({"x": zeros.reshape(4, 2)}),
    of({"x": zeros.reshape(2, 4, 1)}),
    of({"y": zeros}),
    of({"x": other}),
    of({"x": other[::-1]}),
    of({"x": zeros, "y": zeros}),
    of({"x": zeros}, (("a/0/2",),)),
    of({"x": zeros}, (("a/0/1",), ())),
  ]
  assert len(set(cases)) == len(cases)
  assert of({"x": np.asfortranarray(other)}) == of({"x": other})
