"""What to download: one table, and that it is about the shipped configs."""

import re

import pytest

from emma_jax.build import config_file, sections
from emma_jax.build import model as build_model
from emma_jax.convert import published


@pytest.mark.smoke
def test_every_part_names_a_commit_and_its_command():
  for part in published.PUBLISHED:
    assert re.fullmatch(r"[\w-]+/[\w.-]+", part.repository)
    assert re.fullmatch(r"[0-9a-f]{40}", part.revision)
    command = part.download().split()
    assert command[:3] == ["hf", "download", part.repository]
    assert command[command.index("--revision") + 1] == part.revision
    assert part.name in command[-1]
    assert part.download("here").endswith("--local-dir here")
  assert {p.flag for p in published.PUBLISHED} == set(published.FLAGS)


@pytest.mark.parametrize("name", ["emma_4b", "emma_1_7b", "emma_0_6b"])
def test_each_full_size_config_has_its_three_parts(name):
  """By width, and the counts of parameters are those that its model takes."""
  config = sections.plain(config_file.load(name))
  parts = published.of_model(config["model"])
  assert [p.flag for p in parts] == list(published.FLAGS)
  assert config["data"]["tokenizer"].endswith(f"/{parts[0].name}")
  sizes = build_model.emma_config(config["model"])
  llm, encoder = sizes.llm, sizes.vision.encoder
  assert (llm.width, encoder.width) == (parts[0].width, parts[1].width)
  heads = llm.num_heads * llm.head_dim
  keys = llm.num_kv_heads * llm.head_dim
  layer = llm.width * (2 * heads + 2 * keys + 3 * llm.mlp_width + 2)
  layer += 2 * llm.head_dim
  count = llm.num_layers * layer + llm.width * (llm.vocab_size + 1)
  assert count == parts[0].parameters
  shapes = build_model.model(config["model"]).shapes["autoencoder"]
  mine = sum(x.size for path, x in _flat(shapes) if "latent" not in path)
  assert mine == parts[2].parameters


def _flat(tree):
  from emma_jax import rules

  return rules.flatten(tree).items()


def test_a_model_of_other_sizes_has_none():
  config = sections.plain(config_file.load("tiny"))
  assert not [
    p for p in published.of_model(config["model"]) if p.flag != "dcae"
  ]
