"""Prompts rewritten: the old ones kept, nothing asked twice."""

import json

import pytest

from emma_jax.data.curation import prompts, rewriting
from emma_jax.data.ingest.job import ConversionError
from emma_jax.judge import ledger
from tests.data import made
from tests.data.curation.fake_server import Fake, serve
from tests.data.curation.test_remote import ask
from tests.local_server import error


def _client(url, folder):
  return ask(url, folder, name="rewrite", prompt=prompts.PROMPTS["rewrite"])


def _lines(path):
  return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize("plain", [False, True])
def test_rewritten_with_the_old_prompt_beside(tmp_path, plain):
  said = ["a photo of two {prompt} clocks", 'a sign "hi"']
  rows = [{"tag": "counting", "include": [n], "prompt": p}
          for n, p in enumerate(said)]  # fmt: skip
  path = made.jsonl(tmp_path / "in", *(said if plain else rows))
  out = tmp_path / "out.jsonl"
  fake = Fake(fail=lambda n, path: error(401) if n == 2 else None)
  with serve(fake) as url:
    found = rewriting.read(str(path))
    with pytest.raises(ConversionError, match="401"):
      rewriting.rewrite(found, _client(url, tmp_path), str(out), "error", 1)
    assert not out.exists()
    kept = rewriting.rewrite(
      found, _client(url, tmp_path), str(out), "error", 4
    )
  assert kept == 0 and fake.number == 3 and set(fake.answered.values()) == {1}
  lines = _lines(out)
  assert [line["original_prompt"] for line in lines] == said
  assert [line["prompt"] for line in lines] == [
    f"{p}, in great detail" for p in said
  ]
  if not plain:
    assert [line["include"] for line in lines] == [[0], [1]]
    assert lines[0]["tag"] == "counting"
  spent = ledger.spent(rewriting.ledger_of(str(out)))["rewrite"]
  assert spent.calls == 2


def test_what_is_not_rewritten(tmp_path):
  refusal = error(400, "content_filter")
  fake = Fake(fail=lambda n, path: refusal if n == 1 else None)
  rows = [{"prompt": "a"}, {"prompt": "b"}]
  run = lambda missing: rewriting.rewrite(
    rows, _client(url, tmp_path), str(tmp_path / "out"), missing, 1
  )
  with serve(fake) as url:
    with pytest.raises(ConversionError, match="--missing keep"):
      run("error")
    assert run("keep") == 1
  first, second = _lines(tmp_path / "out")
  assert first == {"prompt": "a", "original_prompt": "a"}
  assert second["prompt"] == "b, in great detail"


@pytest.mark.parametrize(
  "text, words",
  [
    ("", "no prompts"),
    ('{"tag": "x"}\n', 'no text "prompt"'),
    ('{"prompt": 3}\n', 'no text "prompt"'),
    ('{"prompt": \n', "no JSON"),
  ],
)
def test_files_that_are_no_prompts(tmp_path, text, words):
  path = tmp_path / "p.jsonl"
  path.write_text(text)
  with pytest.raises(ConversionError, match=words):
    rewriting.read(str(path))
  with pytest.raises(ConversionError, match="No such file"):
    rewriting.read(str(tmp_path / "lost"))


def test_only_a_newline_ends_a_prompt(tmp_path):
  path = tmp_path / "prompts.txt"
  path.write_text("a\u2028b\x85c\r\n\nd\n", encoding="utf-8", newline="")
  found = rewriting.read(str(path))
  assert [row["prompt"] for row in found] == ["a\u2028b\x85c", "d"]
