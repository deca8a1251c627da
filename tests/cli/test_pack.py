"""Mistakes of who packs weights are one line."""

from emma_jax.cli import pack


def test_a_missing_run_is_one_line(tmp_path, capsys):
  code = pack.main(
    [
      "model",
      "--workdir",
      str(tmp_path / "none"),
      "--out",
      str(tmp_path / "x.safetensors"),
    ]
  )
  assert code == 2
  assert "none" in capsys.readouterr().err
