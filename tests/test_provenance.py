"""What made a result is kept for every process that worked on it."""

import json
import subprocess
import sys

import pytest

from emma_jax import provenance

pytestmark = pytest.mark.smoke


def start(**changes) -> dict:
  made = provenance.about({"a": {"b": 1}}, step=3, devices="1 x cpu")
  return made | changes


def test_a_line_says_all_that_is_needed_to_repeat_it():
  found = start()
  assert json.loads(json.dumps(found)) == found
  assert found["config"] == {"a": {"b": 1}} and found["step"] == 3
  assert {"emma_jax", "jax", "python"} <= found["versions"].keys()
  assert len(found["hosts"]) == 1 and found["hosts"][0]


def test_starts_are_kept_in_order_and_damage_is_not_read(tmp_path):
  assert provenance.read(tmp_path) == []
  provenance.append(tmp_path, start(step=0))
  with (tmp_path / provenance.NAME).open("a") as file:
    file.write('{"half\n')
  provenance.append(tmp_path, start(step=7))
  assert [one["step"] for one in provenance.read(tmp_path)] == [0, 7]


@pytest.mark.parametrize(
  "given, script, said",
  [
    (
      ["/usr/bin/python3", "-m", "a.b", "--x=a b"],
      "/site/a/b.py",
      "python3 -m a.b '--x=a b'",
    ),
    (
      ["/v/bin/python", "/v/bin/emma-train", "--c", "d"],
      "/v/bin/emma-train",
      "emma-train --c d",
    ),
    (["python", "run.py", "1"], "run.py", "python run.py 1"),
  ],
)
def test_commands_can_be_pasted(monkeypatch, given, script, said):
  monkeypatch.setattr(sys, "orig_argv", given)
  monkeypatch.setattr(sys, "argv", [script])
  assert provenance.command() == said


def test_the_commit_is_that_of_the_checkout(repo):
  if not (repo / ".git").exists():
    assert provenance.commit() == ""
    return
  head = subprocess.run(
    ["git", "rev-parse", "HEAD"], cwd=repo, capture_output=True, text=True
  ).stdout.strip()
  assert provenance.commit().removesuffix("+") == head
