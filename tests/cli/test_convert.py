"""emma-convert's flags: where the tokenizer comes from, and what comes next."""

import shlex

import pytest

from emma_jax.build import exchange
from emma_jax.cli import convert as cli
from emma_jax.cli import train
from emma_jax.convert import assembly, published
from tests.data import qwen

CONFIG = """
from configs import models, full_size

def get_config():
  return full_size.get("mine", models.emma_0_6b(), "Qwen3-0.6B")
"""


@pytest.fixture
def given(tmp_path, monkeypatch):
  """(arguments of init, configs that it was called with)."""
  file = tmp_path / "mine.py"
  file.write_text(CONFIG)
  argv = ["init", "--config", str(file), "--out", str(tmp_path / "out")]
  for flag in published.FLAGS:
    (tmp_path / flag).mkdir()
    argv += [f"--{flag}", str(tmp_path / flag)]
  called = []
  monkeypatch.setattr(
    exchange,
    "first_weights",
    lambda config, out, **options: called.append(config) or [],
  )
  return argv, called


def test_the_tokenizer_is_that_of_qwen3(given, tmp_path, capsys):
  argv, called = given
  assert cli.main(argv) == 2  # the folder has none
  assert "Download the tokenizer.json" in capsys.readouterr().err
  qwen.write(tmp_path / "qwen3", "vocab.json")
  assert cli.main(argv) == 0
  assert called[-1].data.tokenizer == f"qwen3:{tmp_path / 'qwen3'}"
  out = capsys.readouterr().out
  words = shlex.split(out.strip().splitlines()[-1])
  assert out.splitlines()[-2].endswith("Next:") and words[0] == "emma-train"
  asked = train._read(words[1:])  # as typed: nothing in it is unknown
  assert asked.config.data.tokenizer == called[-1].data.tokenizer
  assert asked.config.initial == str(tmp_path / "out")


def test_a_tokenizer_that_is_named_wins(given, capsys):
  argv, called = given
  key = "data.tokenizer"
  assert cli.main([*argv, f"--config.{key}=qwen3:elsewhere"]) == 0
  assert called[-1].data.tokenizer == "qwen3:elsewhere"
  assert f"--config.{key}=qwen3:elsewhere" in capsys.readouterr().out


def test_missing_parts_come_with_their_commands(given, tmp_path, capsys):
  argv, called = given
  (tmp_path / "siglip2").rmdir()
  at = argv.index("--dcae")
  assert cli.main([*argv[:at], *argv[at + 2 :]]) == 2
  error = capsys.readouterr().err
  wanted = [p for p in published.PUBLISHED if p.flag in ("siglip2", "dcae")]
  assert [line for line in error.splitlines() if " hf download" in line] == [
    f"  {p.download()}  # {published.gigabytes(p.size)}, {p.terms}"
    for p in wanted
  ]
  assert "--dcae is missing" in error and not called


def test_parts_of_other_sizes_are_told_where_the_right_ones_are(
  given, tmp_path, monkeypatch, capsys
):
  argv, _ = given
  qwen.write(tmp_path / "qwen3", "vocab.json")

  def differs(*args, **options):
    raise assembly.AssemblyError("Qwen3 has other sizes.")

  monkeypatch.setattr(exchange, "first_weights", differs)
  assert cli.main(argv) == 2
  error = capsys.readouterr().err
  assert "other sizes" in error
  assert f"emma-convert parts --config {tmp_path / 'mine.py'}" in error


def test_parts_lead_to_init(capsys):
  assert cli.main(["parts", "--config", "emma_1_7b"]) == 0
  out = capsys.readouterr().out
  assert "Qwen/Qwen3-1.7B" in out and "Qwen3-4B" not in out
  words = shlex.split(out.strip().splitlines()[-1])
  args = cli._parser().parse_args(words[1:])
  assert args.command == "init" and args.out.name == "emma_1_7b_init"
  for flag in published.FLAGS:
    folder = str(getattr(args, flag))
    assert f"--local-dir {folder} " in out
  assert cli.main(["parts"]) == 0
  out = capsys.readouterr().out
  assert all(p.revision in out for p in published.PUBLISHED)
  assert cli.main(["parts", "--config", "tiny"]) == 2
  assert "No published part" in capsys.readouterr().err


def test_help_names_every_part(capsys):
  with pytest.raises(SystemExit):
    cli.main(["init", "--help"])
  text = capsys.readouterr().out
  for part in published.PUBLISHED:
    assert part.download() in text
    assert part.repository in text
