"""On a user's files answers have scores, pictures only distances."""

import json

import numpy as np
from PIL import Image
import pytest

from emma_jax.data.loading import sources
from emma_jax.evals import files, report, runner
from emma_jax.evals.settings import EvalSettings
from emma_jax.structs import Understanding
from tests.sampling import small

from .conftest import Perfect, bare

QUESTION = "<image>\nWhat does this show?"


@pytest.fixture
def specs(tmp_path) -> dict:
  rng = np.random.default_rng(0)
  for i in range(8):
    pixels = rng.integers(0, 256, (24, 40, 4), np.uint8)
    Image.fromarray(pixels).save(tmp_path / f"{i}.png")
  Image.new("RGB", (10, 10)).save(tmp_path / "small.png")
  lines = {
    "understanding": [
      {
        "image": f"{i}.png",
        "conversations": [
          {"from": "human", "value": QUESTION},
          {"from": "gpt", "value": f"thing {i % 2}"},
          {"from": "human", "value": f"Rare {i}?"},
          {"from": "gpt", "value": "no"},
        ],
      }
      for i in range(6)
    ],
    "drawing": [
      {"image": f"{i}.png", "caption": f"a <b>{i}</b>"} for i in range(4)
    ],
    "editing": [
      {"source": "0.png", "instruction": "i0", "target": "1.png"},
      {"source": "lost.png", "instruction": "x", "target": "1.png"},
      {"source": ["2.png", "0.png"], "instruction": "i1"}
      | {"target": "small.png"},
    ],
  }
  specs = {}
  for task, rows in lines.items():
    path = tmp_path / f"{task}.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    specs[task] = f"jsonl:{path}"
  return specs


def perfect(specs) -> Perfect:
  known = [r for t, s in specs.items() for r in files.records(s, t, 9)[0]]
  session = Perfect(records=known)
  # A result has its source's size.
  session.edit = lambda pictures, instructions, **_: [p for p, *_ in pictures]
  return session


def test_scores_and_report(tmp_path, config, specs):
  settings = EvalSettings.of(config, sources=specs)
  done = runner.run(perfect(specs), settings)
  asked = done.scores["understanding"]
  assert asked["score"] == 1.0 and asked["n"] == 12
  assert bare(asked["kinds"]) == {
    "What does this show?": {"score": 1.0, "n": 6, "baseline": 0.5},
    files.OTHER: {"score": 1.0, "n": 6, "baseline": 1.0},
  }
  assert done.scores["drawing"]["score"] is None
  edits = done.scores["editing"]
  assert edits["score"] is None and edits["n"] == 2
  assert edits["psnr"] == edits["copy"]["psnr"] > 0
  assert len(edits["bad_records"]) == 1
  assert "editing.jsonl:2" in edits["bad_records"][0]
  assert done.scores["ceiling"] == done.scores["held_out"] == {}
  report.write(
    tmp_path / "r.html",
    title="files",
    scores=done.scores,
    outcomes=done.outcomes,
  )
  page = (tmp_path / "r.html").read_text()
  assert "No exact score exists" in page and "&lt;b&gt;0&lt;/b&gt;" in page
  assert "&lt;image&gt;" not in page and 'class="wrong"' not in page
  json.dumps(done.scores, allow_nan=False)


def test_counts_are_limits_and_order_is_the_files(specs):
  found, bad = files.records(specs["understanding"], "understanding", 2)
  assert [r.id.rsplit(":")[-1] for r in found] == ["1", "2"] and not bad


def test_a_question_is_a_kind_from_its_fifth_time_on():
  """And one of the twelve most frequent."""
  ask = lambda question, n: [
    Understanding(pictures=(), turns=((question, "x"),), id=str(i))
    for i in range(n)
  ]
  named = lambda found: {r.kinds[0] for r in files._kinds(found)}
  assert named(ask("a?", 5) + ask("b?", 4)) == {"a?", files.OTHER}
  many = [r for n in range(13) for r in ask(f"{n}?", 20 - n)]
  assert named(many) == {*(f"{n}?" for n in range(12)), files.OTHER}
  assert files._kinds(ask("<image>\na?", 5))[0].kinds == ("a?",)


def test_files_with_nothing_to_use_are_refused(tmp_path):
  path = tmp_path / "x.jsonl"
  path.write_text('{"image": "lost.png", "caption": "a"}\n')
  with pytest.raises(files.NoRecords, match="x.jsonl:1"):
    files.records(f"jsonl:{path}", "drawing", 3)


@pytest.mark.parametrize(
  "spec", ["records:{}/gone", "jsonl:{}/gone.jsonl", "python:no.such:rows"]
)
def test_a_source_that_was_moved_is_told_with_its_key(spec, tmp_path):
  """As of a folder of a fine-tuning, which holds its own data."""
  with pytest.raises(
    files.NoRecords, match=r"sources.drawing=.*(gone|no\.such)"
  ):
    files.records(spec.format(tmp_path), "drawing", 2)


def test_a_record_that_cannot_be_asked_is_counted_and_ends_nothing(
  tmp_path, config, specs
):
  """Training takes it; loader and session have one definition of valid."""
  turn = lambda who, text: {"from": who, "value": text}
  talk = lambda images, *texts: {
    "images": images,
    "conversations": [
      turn("gpt" if i % 2 else "human", text) for i, text in enumerate(texts)
    ],
  }
  rows = [
    talk(["0.png"], QUESTION, "a"),
    talk(["0.png", "1.png"], "<image>\nOne?", "a", "<image>\nTwo?", "b"),
    talk(["0.png", "1.png"], "Two?", "a", "<image>\n<image>Three?", "b"),
    talk(["thin.png"], QUESTION, "a"),
    talk(["1.png"], QUESTION, "b"),
  ]
  Image.new("RGB", (4000, 1)).save(tmp_path / "thin.png")
  path = tmp_path / "talks.jsonl"
  path.write_text("".join(json.dumps(row) + "\n" for row in rows))
  mixed = tmp_path / "mixed.jsonl"
  edit = {"instruction": "i0", "input_images": ["0.png"]}
  drawn = {"instruction": "a", "input_images": []}
  mixed.write_text(
    "".join(
      json.dumps(row | {"output_image": "1.png"}) + "\n"
      for row in (edit, drawn, edit)
    )
  )
  source = sources.open_source(f"jsonl:{path}")
  to_sample = small.session().requests.to_sample
  assert len([to_sample(source[i]) for i in range(3)]) == 3  # for training
  found = {"understanding": f"jsonl:{path}", "editing": f"jsonl:{mixed}"}
  session = perfect(found)
  session.check = small.session().check
  done = runner.run(session, EvalSettings.of(config, sources=found)).scores
  asked, edited = done["understanding"], done["editing"]
  assert asked["score"] == 1.0
  left_out = asked["bad_records"]
  assert asked["n"] + len(left_out) == 5 and len(left_out) >= 2
  assert "talks.jsonl:2" in left_out[0] and "first question" in left_out[0]
  assert "talks.jsonl:3" in left_out[1] and "first question" in left_out[1]
  assert edited["n"] == 2 and len(edited["bad_records"]) == 1
  assert "mixed.jsonl:2: a Drawing record" in edited["bad_records"][0]


def test_a_file_with_nothing_is_found_before_anything_is_computed(
  tmp_path, config, specs
):
  path = tmp_path / "lost.jsonl"
  path.write_text('{"source": "no", "instruction": "a", "target": "no"}\n')
  session = perfect(specs)
  broken = specs | {"editing": f"jsonl:{path}"}
  with pytest.raises(files.NoRecords, match="lost.jsonl:1"):
    runner.run(session, EvalSettings.of(config, sources=broken))
  assert not session.calls


def test_folders_of_records_are_files_too(tmp_path, config, specs):
  """Converted, they give the scores of the lines they were made of."""
  from emma_jax.data.ingest import job, part
  from emma_jax.data.text.tokenizer import TinyTokenizer

  records = {}
  for task, spec in specs.items():
    out = str(tmp_path / f"{task}_records")
    job.run(
      job.Job(
        inputs=[spec.removeprefix("jsonl:")],
        out=out,
        workers=0,
        max_rejected=0.5,
        maker=part.Recipe(form="", tokenizer=TinyTokenizer(["a"])),
      )
    )
    records[task] = f"records:{out}"
  found = [
    runner.run(perfect(s), EvalSettings.of(config, sources=s)).scores
    for s in (specs, records)
  ]
  for task in specs:
    lines, stored = found[0][task], found[1][task]
    assert {k: v for k, v in lines.items() if k != "bad_records"} == {
      k: v for k, v in stored.items() if k != "bad_records"
    }
