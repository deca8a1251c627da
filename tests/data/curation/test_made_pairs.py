"""Made pairs: each kind is what it is called, and the table counts them."""

import io

import numpy as np
from PIL import Image
import pytest

from emma_jax.cli import common as cli_common
from emma_jax.cli import data as cli_data
from emma_jax.data.curation import duplicates, made_pairs
from emma_jax.data.curation.base import pixels
from emma_jax.evals.world import records
from tests.data import made
from tests.data.curation import common


def test_on_the_world_nothing_else_is_a_duplicate():
  """And of near-copies of pictures that say enough most are found."""
  dedup = duplicates.Dedup(base=common.recipe())
  found, bad = made_pairs.first("world:drawing:val", 16)
  assert len(found) == 16 and bad == 0
  measured = made_pairs.measure(found, dedup)
  for kind in (*made_pairs.FALSE, made_pairs.OTHERS):
    assert measured.bits[kind].size >= 15
    assert not measured.share(kind, max(made_pairs.RADII)), kind
  assert measured.precision(3) == 1 and measured.recall(3) > 0.25
  shares = [measured.recall(r) for r in made_pairs.RADII]
  assert shares == sorted(shares)
  lines = made_pairs.table(measured, 3)
  assert "[3]" in lines[1] and len(lines) == 2 + 8 + 2 + 2
  assert lines[-3].split()[0] == "precision"


def test_a_hash_of_everything_is_seen_to_be_one(monkeypatch):
  """The measure is no formality: where all look alike, precision falls."""
  everything = lambda one, many: np.ones(len(many), bool)
  monkeypatch.setattr(duplicates, "_alike", everything)
  dedup = duplicates.Dedup(base=common.recipe())
  found, _ = made_pairs.first("world:drawing:val", 12)
  measured = made_pairs.measure(found, dedup)
  assert measured.precision(12) < 0.95
  assert measured.share(made_pairs.OTHERS, 12) > 0


def test_changes_are_seen_and_keep_the_rest():
  rng = np.random.default_rng(0)
  made_of = 0
  for record in records("drawing", "val", 6):
    picture = record.picture
    for change in (made_pairs.recoloured, made_pairs.moved):
      changed = change(picture, rng)
      if changed is None:  # nobody would see it
        continue
      made_of += 1
      assert changed.shape == picture.shape
      assert 0.001 < (changed != picture).any(-1).mean() <= 1
  assert made_of >= 9
  plain = np.full((40, 60, 3), 5, np.uint8)
  assert made_pairs.recoloured(plain, rng) is None
  assert made_pairs.moved(plain, rng) is None
  tiny = np.zeros((2, 2, 3), np.uint8)
  assert made_pairs.moved(tiny, rng) is None


def test_of_every_task_the_last_picture_or_the_text_is_another():
  rng = np.random.default_rng(0)
  stored, _ = made_pairs.first("world:editing:val", 2)
  kinds = {k: v for k, v in made_pairs.variants(stored[0], stored[1], rng)}
  old, new = stored[0].record, kinds["recoloured"].record
  assert new.sources == old.sources and new.target != old.target
  words = kinds["re-captioned"].record
  assert words.instruction != old.instruction and words.target == old.target
  same = made_pairs._with_text(stored[0], stored[0]).record
  assert same.instruction == f"{old.instruction}, again"
  half = kinds["resized"].record
  assert (
    pixels(half.target, "").shape[0] == pixels(old.target, "").shape[0] * 1.5
  )
  asked, _ = made_pairs.first("world:understanding:val", 1)
  changed = made_pairs._with_text(asked[0], asked[0]).record
  assert changed.turns != asked[0].record.turns
  assert changed.pictures == asked[0].record.pictures


def test_the_command(tmp_path, capsys):
  run = lambda *argv: cli_common.run(cli_data.main, list(map(str, argv)))
  rng = np.random.default_rng(0)
  rows = []
  for i in range(3):
    out = io.BytesIO()
    small = Image.fromarray(rng.integers(0, 256, (6, 8, 3), np.uint8))
    small.resize((64, 48), Image.Resampling.BICUBIC).save(out, "PNG")
    (tmp_path / f"{i}.png").write_bytes(out.getvalue())
    rows.append({"image": f"{i}.png", "caption": f"[red] {i}"})
  rows.append({"image": "none.png", "caption": "a"})
  made.jsonl(tmp_path / "set.jsonl", *rows)
  assert run("dedup", "--measure", tmp_path / "set.jsonl") == 0
  out = capsys.readouterr().out
  assert "3 records, 1 broken left out" in out and "recall" in out
  assert run("dedup", tmp_path / "set.jsonl") == 2
  assert "--out DIR, or --measure" in capsys.readouterr().err
  assert run("dedup", "--measure", tmp_path / "no.jsonl") == 2
  assert run("dedup", "--measure", "--records", 1, tmp_path / "set.jsonl") == 2


@pytest.mark.parametrize("kind", ["", "phash"])
def test_without_near_pictures_only_equal_ones_count(kind: str):
  dedup = duplicates.Dedup(base=common.recipe(), perceptual=kind)
  found, _ = made_pairs.first("world:drawing:val", 3)
  measured = made_pairs.measure(found, dedup)
  if not kind:
    assert measured.share("re-encoded", 12) == 0
  assert measured.precision(12) == 1
