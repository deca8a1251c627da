"""The model card says what the weights' own metadata say, and no more."""

import re

import pytest

from emma_jax.build import card, exchange
from emma_jax.build import session as build_session
from emma_jax.convert import published
from tests import tiny


@pytest.fixture(scope="module")
def reference():
  return build_session.read("reference")


def test_the_shipped_models_card(reference, tmp_path):
  exchange.export(reference, "emma", tmp_path / "out", expert="versatile")
  text = (tmp_path / "out" / "README.md").read_text()
  assert text == card.card(reference, "emma")
  assert text.startswith("---\nlibrary_name: pytorch\nlicense: apache-2.0\n")
  for command in card.usage("emma", "."):
    assert command in text
  assert f"cd {tmp_path}" in card.usage("emma", tmp_path)
  scores = reference.meta["scores"]
  for task in ("understanding", "drawing", "editing"):
    one = scores[task]
    assert f"| {task} | {one['score']:.3f} | {one['n']} |" in text
  rows = dict(re.findall(r"^\| (\w+) \| ([\d,]+) \|$", text, re.M))
  counts = {name: int(n.replace(",", "")) for name, n in rows.items()}
  assert counts.pop("all") == sum(counts.values()) > 3_000_000
  assert reference.meta["note"] in text


@pytest.mark.parametrize("part", ["und", "vision", "autoencoder"])
def test_a_part_is_loaded_by_its_library(part, reference, tmp_path):
  exchange.export(reference, part, tmp_path / "out", expert="versatile")
  text = (tmp_path / "out" / "README.md").read_text()
  (command,) = card.usage(part, ".")
  assert command in text and "from_pretrained" in command


def test_what_is_not_known_is_not_claimed():
  config = tiny.config().to_dict()
  source = build_session.Source(
    config=config, params=tiny.params(), name="x", step=3, route="versatile"
  )
  text = card.card(source, "emma")
  assert "None are known" in text and "license:" not in text
  assert "base_model" not in text


def test_weights_of_published_parts_name_their_licences():
  (qwen3,) = published.of("qwen3", 1024)
  source = build_session.Source(
    config=tiny.config().to_dict() | {"initial": "runs/x_init"},
    params=tiny.params(),
    name="x",
    step=0,
    route="versatile",
    meta={"origins": [["llm/embed", "/home/me/weights/Qwen3-0.6B", 7]]},
  )
  model = source.config["model"]
  model["llm"]["width"], model["vision"]["encoder"]["width"] = 1024, 1152
  model["autoencoder"]["latent_channels"] = 32
  text = card.card(source, "emma")
  assert f"- {qwen3.repository}\n" in text
  assert f"- [{qwen3.repository}]({qwen3.page}): Apache-2.0" in text
  assert "Nothing yet" in text and "- Qwen3-0.6B: `llm/embed`" in text
  assert "/home/me" not in text
