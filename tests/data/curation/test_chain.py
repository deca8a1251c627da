"""Chains against a server of this machine: counted, priced, killed, resumed."""

import json
import os
from pathlib import Path
import signal
import subprocess
import sys
import threading

import pytest

from configs.data import chains
from emma_jax.build import chain as build_chain
from emma_jax.data.curation import chain as chain_lib
from emma_jax.data.ingest.job import ConversionError
from emma_jax.data.records.card import Card
from tests.data import made
from tests.data.curation import common
from tests.data.curation.fake_server import Fake, serve
from tests.local_server import error

CONFIG = """
from configs.data import chains

def get_config():
  c = chains.chain(
    "made",
    ("pictures.jsonl",),
    {
      "1_convert": chains.step("convert"),
      "2_size": chains.step("filter", min_side=32, share=0.8),
      "3_caption": chains.step("recaption"),
      "4_instruction": chains.step("propose_edits"),
      "5_edited": chains.step("apply_edits"),
      "6_pairs": chains.step("check_edits", ocr="", share=1.5),
    },
  )
  c.rows_per_shard = 3
  for server in c.servers.values():
    server.pause = 0.001
    server.tries = 2
  c.servers.vlm.price = dict(input=2.0, output=30.0, picture=None)
  c.servers.editor.price = dict(input=None, output=None, picture=0.04)
  return c
"""
ANSWER = (100 * 2.0 + 10 * 30.0) / 1e6
# Five of six pictures are large enough. A colour's sum decides the judge.
COLOURS = ("#102030", "#804020", "#20a0c0", "#f0f0f0", "#4080a0")


@pytest.fixture
def inputs(tmp_path) -> Path:
  rows = []
  for n, colour in enumerate(COLOURS):
    (tmp_path / f"{n}.png").write_bytes(made.picture(colour, 40, 48))
    rows.append({"id": f"p{n}", "image": f"{n}.png", "caption": f"old {n}"})
  (tmp_path / "small.png").write_bytes(made.picture("red", 8, 8))
  rows.append({"id": "small", "image": "small.png", "caption": "small"})
  return made.jsonl(tmp_path / "pictures.jsonl", *rows)


def config(url: str = "http://127.0.0.1:9/v1", **steps):
  scope = {}
  exec(CONFIG, scope)
  c = scope["get_config"]()
  for server in c.servers.values():
    server.url = url
  for name, changes in steps.items():
    c.steps[f"{name[1:]}"].update(changes)
  return c


def build(c, out: Path, inputs: Path, requests: int = 2) -> chain_lib.Chain:
  return build_chain.chain(c, str(out), [str(inputs)], 0, requests)


def content(out: Path) -> dict[str, list]:
  """Of every step, what its records are, whatever the folder's name."""
  return {
    folder.name.rpartition("-")[0]: [
      (s.record, {**s.provenance, "row": ""}) for s in common.read(folder)
    ]
    for folder in sorted(out.glob("*-????????"))
  }


def test_a_chain_from_end_to_end(tmp_path, inputs):
  fake = Fake()
  with serve(fake) as url:
    chain = build(config(url), tmp_path / "out", inputs)
    told = []
    reports = chain_lib.run(chain, begin=lambda r: told.append(r.name))
    asked = fake.number
    assert [r.name for r in reports] == told and len(told) == 6
    again = chain_lib.run(chain, begin=lambda r: told.append(r.name))
    assert fake.number == asked and len(told) == 6
  assert again == reports
  counts = {r.name: (r.records_in, r.records_out) for r in reports}
  assert counts["1_convert"] == (6, 6) and counts["2_size"] == (6, 5)
  assert counts["3_caption"] == counts["4_instruction"] == (5, 5)
  assert counts["5_edited"] == (5, 5)
  assert reports[1].left_out == {"min_side": 1}
  last = reports[-1]
  assert set(last.left_out) == {"face", "judge", "reverse: judge"}
  pairs = common.read(Path(last.folder))
  # Every edit, and every reverse of one that stays, stays or is counted.
  forward = [s for s in pairs if not s.record.id.endswith("-reversed")]
  assert len(forward) + last.left_out["judge"] + last.left_out["face"] == 5
  assert len(pairs) + last.left_out["reverse: judge"] == 2 * len(forward)
  assert last.records_out == len(pairs)
  for stored in pairs:
    assert stored.record.instruction.startswith(("Add a hat", "Remove the hat"))
    assert stored.provenance["caption_before"].startswith("old")
  assert reports[3].spent["instruction"].calls == 5
  assert reports[3].paid == pytest.approx(5 * ANSWER)
  assert reports[4].spent["edit"].pictures == 5
  assert reports[4].paid == pytest.approx(5 * 0.04)
  # At most: five faces, and the judge of five pairs and five reverses.
  assert [(e.name, e.calls) for e in last.estimates] == [
    ("reverse", 5),
    ("judge", 10),
    ("face", 5),
  ]
  paid = sum(r.paid for r in reports)
  assert fake.number == sum(s.calls for r in reports for s in r.spent.values())
  written = json.loads((tmp_path / "out" / chain_lib.REPORT).read_text())
  assert written["cost spent"] == pytest.approx(paid)
  assert [s["records_out"] for s in written["steps"]] == [
    r.records_out for r in reports
  ]
  assert [s["result"] for s in written["steps"]] == [False] * 5 + [True]
  lines = list(chain_lib.table(reports))
  assert any("left out: min_side" in line for line in lines)
  assert lines[-1].endswith(f"spent {chain_lib.ledger.money(paid)}")


def test_a_dry_run_sends_and_writes_nothing(tmp_path, inputs):
  chain = build(config(), tmp_path / "out", inputs)  # nobody listens there
  reports = chain_lib.look(chain)
  assert not (tmp_path / "out").exists()
  # Shares: 6, 0.8 of it, and half as many again.
  assert [r.records_in for r in reports] == [6, 6, 5, 5, 5, 5]
  assert [r.records_out for r in reports] == [6, 5, 5, 5, 5, 8]
  assert {r.state for r in reports} == {"to do"}
  assert [sum(e.calls for e in r.estimates) for r in reports] == [
    *(0, 0, 5, 5, 5, 20)
  ]
  caption = reports[2].estimates[0]
  words = len(chain.steps[2].maker.answers.prompt) / 4
  assert caption.input_tokens == round(5 * (words + 24 * 24))
  assert caption.cost == pytest.approx(
    5 * ((words + 24 * 24) * 2.0 + 150 * 30.0) / 1e6
  )
  assert reports[4].asked == pytest.approx(5 * 0.04)
  free = config()
  free.servers.vlm.price.input = None
  unknown = chain_lib.look(build(free, tmp_path / "out", inputs))
  assert unknown[2].asked is None and unknown[4].asked is not None


def test_what_a_setting_changes_is_made_anew_and_nothing_else(tmp_path, inputs):
  fake = Fake()
  with serve(fake) as url:
    first = build(config(url), tmp_path / "out", inputs)
    chain_lib.run(first)
    asked = fake.number
    other = config(url, _6_pairs={"min_judge": 1.0, "min_face": 0.0})
    second = build(other, tmp_path / "out", inputs)
    told = []
    reports = chain_lib.run(second, begin=lambda r: told.append(r.name))
  assert told == ["6_pairs"]
  a, b = first.folders(), second.folders()
  assert {k for k in a if a[k] != b[k]} == {"6_pairs"}
  # The judges' replies are the same; only those of new reverses are asked.
  assert not reports[-1].left_out and reports[-1].records_out == 10
  assert fake.number - asked == sum(s.calls for s in reports[-1].spent.values())
  early = build(config(url, _2_size={"min_side": 4}), tmp_path / "out", inputs)
  assert {k for k, v in early.folders().items() if v != a[k]} == {*list(a)[1:]}
  moved = config("http://elsewhere/v1")
  assert build(moved, tmp_path / "out", inputs).folders() == a
  moved.servers.editor.model = "another"
  changed = build(moved, tmp_path / "out", inputs).folders()
  assert {k for k in a if a[k] != changed[k]} == {"5_edited", "6_pairs"}


def test_interrupted_at_any_request_nothing_is_asked_twice(tmp_path, inputs):
  """The server says no at one request after the other, for ever new reasons."""
  whole = Fake()
  with serve(whole) as url:
    chain_lib.run(build(config(url), tmp_path / "whole", inputs))
  fatal = set(range(1, 2 * whole.number, 3))
  fake = Fake(fail=lambda n, path: error(401) if n in fatal else None)
  runs = 0
  with serve(fake) as url:
    chain = build(config(url), tmp_path / "out", inputs, requests=1)
    while True:
      runs += 1
      try:
        reports = chain_lib.run(chain)
        break
      except ConversionError as failed:
        assert "401" in str(failed) and runs < 99
  assert runs > 8
  assert fake.answered == whole.answered
  assert set(fake.answered.values()) == {1}
  assert content(tmp_path / "out") == content(tmp_path / "whole")
  assert sum(s.calls for r in reports for s in r.spent.values()) == (
    whole.number
  )


def test_as_many_at_a_time_as_asked_for(tmp_path, inputs):
  """Three requests wait for each other: fewer would wait for ever."""
  together = threading.Barrier(3)
  # Five captions in parts of three rows and two.

  def wait(n, path):
    if n < 4:
      together.wait(60)
    return error(429) if n in (1, 6) else None

  fake = Fake(fail=wait)
  with serve(fake) as url:
    chain = build(config(url), tmp_path / "out", inputs, requests=3)
    chain_lib.run(chain)
  assert set(fake.answered.values()) == {1}
  written = json.loads((tmp_path / "out" / chain_lib.REPORT).read_text())
  failed = [
    spent["failed"] for s in written["steps"] for spent in s["spent"].values()
  ]
  assert sum(f.get("429", 0) for f in failed) == 2


@pytest.mark.parametrize("at", [9])
def test_killed_and_resumed(tmp_path, inputs, at, repo):
  """By SIGKILL, which nothing can prepare for; no answered call is repeated."""
  whole = Fake()
  with serve(whole) as url:
    chain_lib.run(build(config(url), tmp_path / "whole", inputs))
  (tmp_path / "made.py").write_text(CONFIG)
  processes = []

  def kill(n, path):
    if n == at:
      processes[0].send_signal(signal.SIGKILL)
      processes[0].wait()
      return error(500)
    return None

  fake = Fake(fail=kill)
  with serve(fake) as url:
    command = [sys.executable, "-m", "emma_jax.cli.data", "chain"]
    command += ["--config", str(tmp_path / "made.py"), str(inputs)]
    command += ["--out", str(tmp_path / "out"), "--requests", "1"]
    command += ["--workers", "0"]
    for name in ("vlm", "editor", "generator"):
      command.append(f"--config.servers.{name}.url={url}")
    start = lambda: subprocess.Popen(
      command,
      cwd=repo,
      env=os.environ | {"PYTHONPATH": str(repo)},
      stdout=subprocess.PIPE,
      stderr=subprocess.STDOUT,
      text=True,
    )
    processes.append(start())
    assert processes[0].wait(300) == -signal.SIGKILL
    processes[0].stdout.close()
    assert 0 < fake.answered.total() < whole.number
    second = start()
    said, _ = second.communicate(timeout=300)
  assert second.returncode == 0, said
  assert fake.answered == whole.answered
  assert set(fake.answered.values()) == {1}
  assert content(tmp_path / "out") == content(tmp_path / "whole")
  assert f"Wrote {tmp_path / 'out' / 'chain.json'}" in said
  written = json.loads((tmp_path / "out" / "chain.json").read_text())
  expected = json.loads((tmp_path / "whole" / "chain.json").read_text())
  assert written["cost spent"] == pytest.approx(expected["cost spent"])
  assert written["cost asked"] == pytest.approx(expected["cost asked"])


def test_steps_may_branch_and_join(tmp_path, inputs):
  steps = {
    "1_convert": chains.step("convert"),
    "2_large": chains.step("filter", min_side=32),
    "3_small": chains.step("filter", input="1_convert", max_side=31),
    "4_all": chains.step("convert", input=("2_large", "3_small")),
    "5_questions": chains.step("as_questions", input="2_large"),
  }
  c = chains.chain("branches", (), steps)
  chain = build(c, tmp_path / "out", inputs)
  assert chain.results() == ["4_all", "5_questions"]
  reports = {r.name: r for r in chain_lib.run(chain)}
  assert reports["3_small"].records_out == 1
  assert reports["4_all"].records_in == reports["4_all"].records_out == 6
  card = Card.load(reports["5_questions"].folder)
  assert card.tasks == {"understanding": 5}


def test_a_tar_tells_its_rows_only_when_it_is_read(tmp_path):
  import tarfile

  path = tmp_path / "a.tar"
  with tarfile.open(path, "w") as tar:
    for name, data in (("1.png", made.picture()), ("1.txt", b"red")):
      info = tarfile.TarInfo(name)
      info.size = len(data)
      tar.addfile(info, made.io.BytesIO(data))
  chain = build(config(), tmp_path / "out", path)
  assert chain_lib.look(chain)[0].records_in is None
  assert "?" in list(chain_lib.table(chain_lib.look(chain)))[1]
  assert chain_lib.look(chain, 1000)[2].records_in == 800
