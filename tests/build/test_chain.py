"""Chains of configs/data: each is built, and a wrong key is told."""

import pytest

from configs.data import chains
from emma_jax.build import chain as build_chain
from emma_jax.build import config_file
from emma_jax.build.sections import ConfigError
from emma_jax.data.curation import chain as chain_lib
from emma_jax.data.curation import fonts, prompts, stem_labels
from emma_jax.data.ingest.job import ConversionError
from tests.data import made

# Config -> the steps that it is for.
SETS = {
  "laion": {"5_i2t", "6_t2i"},
  "t2i_1k": {"6_portrait", "7_general"},
  "rendered_text": {"1_fonts", "3_read"},
  "x2i2": {"4_judged"},
  "omniedit": {"4_judged"},
  "synthetic_edits": {"5_pairs"},
  "text_edits": {"5_pairs"},
  "quality": {"2_best"},
  "stem": {"3_stem", "4_general"},
}


def _build(config, tmp_path):
  path = made.jsonl(tmp_path / "rows.jsonl", {"a": 1}, {"a": 2})
  return build_chain.chain(config, str(tmp_path / "out"), [str(path)], 0, 1)


def test_every_set_of_the_folder_is_known(repo):
  files = {p.stem for p in (repo / "configs" / "data").glob("*.py")}
  assert files == {*SETS, "chains"}


@pytest.mark.parametrize("name", SETS)
def test_sets_are_built_and_estimated(name, tmp_path):
  """By `--config data/NAME`, as a person gives it; nothing is sent."""
  try:
    fonts.find("en")
  except ConversionError:
    pytest.skip("no fonts; install fonts-dejavu-core")
  config = config_file.load(f"data/{name}")
  chain = _build(config, tmp_path)
  assert set(chain.results()) == SETS[name]
  reports = chain_lib.look(chain)
  assert all(r.state == "to do" and r.records_in is not None for r in reports)
  calls = sum(e.calls for r in reports for e in r.estimates)
  assert calls > 0 and not (tmp_path / "out").exists()
  for server in config.servers.values():
    server.price = dict(input=0.0, output=0.0, picture=0.0)
  priced = chain_lib.look(_build(config, tmp_path))
  assert all(r.asked == 0 for r in priced)


def test_every_kind_has_its_keys(tmp_path):
  """What the defaults say is all that a builder takes, and no more."""
  assert chains.KINDS.keys() == build_chain.BUILDERS.keys()
  for kind in chains.KINDS:
    more = {"count": 5} if kind == "select" else {}
    config = chains.chain("x", (), {"1_it": chains.step(kind, **more)})
    if kind == "synth_text":
      continue  # fonts; built with the sets
    assert _build(config, tmp_path).steps[0].maker.identity()
  assert set(chains.chain("x", (), {}).prompts) == (
    set(prompts.PROMPTS) | {"stem"}
  ) - {"rewrite"}


def test_chart_readings_and_prompts_of_a_config(tmp_path):
  config = config_file.load("data/stem", {"steps.2_label.reading": "summary"})
  maker = _build(config, tmp_path).steps[1].maker
  assert maker.rules == stem_labels.READINGS["summary"].rules
  assert "charts" in maker.answers.prompt
  config = config_file.load("data/stem", {"prompts.stem": "Is it?"})
  assert _build(config, tmp_path).steps[1].maker.answers.prompt == "Is it?"


@pytest.mark.parametrize(
  "steps, words",
  [
    ({"1_a": dict(do="juggle")}, "juggle"),
    ({"1_a": dict(do="dedup", radius=3)}, "lacks the key"),
    ({"1_a": dict(chains.step("dedup"), colour=3)}, "colour"),
    ({"1_a": chains.step("recaption", by="nobody")}, "nobody"),
    ({"1_a": chains.step("recaption", by="editor")}, "picture_tokens"),
    ({"1_a": chains.step("apply_edits", painter="nobody")}, "nobody"),
    ({"1_a": chains.step("dedup", input="2_b")}, "2_b"),
    ({"1_a": chains.step("label_stem", reading="mine")}, "mine"),
    ({"1_a": chains.step("propose_edits", missing="keep")}, "drop"),
  ],
)
def test_mistakes_name_the_step(steps, words, tmp_path):
  config = chains.chain("x", (), {})
  config.steps = {k: dict(v) for k, v in steps.items()}
  with pytest.raises((ConfigError, ConversionError), match=words):
    _build(config, tmp_path)


def test_a_chain_without_input_or_steps(tmp_path):
  config = chains.chain("x", (), {"1_a": chains.step("dedup")})
  with pytest.raises(ConfigError, match="no input"):
    build_chain.chain(config, str(tmp_path), [], 0, 1)
  with pytest.raises(ConversionError, match="no steps"):
    _build(chains.chain("x", (), {}), tmp_path)
  with pytest.raises(ValueError, match="no keys"):
    chains.step("dedup", colour=3)
