"""Rows are measured before the first step, and what follows from them."""

import json
import math
import types

import pytest

from emma_jax.build import data as build_data
from emma_jax.build import measured, sections
from emma_jax.data.batching import summary
from tests.data import recorded

STAGE = "3_quality"
EXPECTED, ROWS, STEPS = 9.0, 4, 60
BATCH = 12
SAMPLES, HALF_LIFE = int(EXPECTED * ROWS * STEPS), 240


@pytest.fixture(scope="module")
def sources(tmp_path_factory) -> dict[str, str]:
  return recorded.folders(tmp_path_factory.mktemp("records"))


def given(sources, **changes) -> dict:
  """Nine samples expected of rows that hold some three."""
  wanted = dict(
    measure_rows=True,
    row_samples=EXPECTED,
    batch_samples=BATCH,
    rows=ROWS,
    accumulation=2,
    steps=STEPS,
    stage_samples=SAMPLES,
    warmup_samples=216,
    half_life=HALF_LIFE,
    warmup_steps=6,
    ema_decay=0.9,
    learning_rate=2e-3,
    rate_factor=2.0,
    mixture=(
      (0.0, dict(understanding=1.0, drawing=1.0), dict(row=dict(targets=1))),
      (0.5, dict(understanding=1.0, drawing=1.0, editing=1.0)),
    ),
  )
  return sections.plain(recorded.config(sources, **(wanted | changes)))


@pytest.fixture(scope="module")
def found(sources, tmp_path_factory):
  plans = tmp_path_factory.mktemp("plans")
  config, notes = measured.config(given(sources), str(plans))
  return config, notes, plans


def test_the_stage_sees_its_samples_in_the_phases_shares(found):
  """Counted in the plan of all its steps."""
  config, _, plans = found
  section = config["stages"][STAGE]
  source = build_data.batches(config, STAGE, str(plans))
  told = summary.summarise(source.plan, batches=section["steps"])
  assert told.samples == pytest.approx(SAMPLES, rel=0.03)
  first, second = (
    phase.batches * section["rows"] * phase.row_samples for phase in told.phases
  )
  assert first == pytest.approx(second, rel=0.06)
  # The rows of the second phase hold more, so it has fewer steps.
  a, b = (phase.row_samples for phase in told.phases)
  assert b > 1.2 * a
  assert told.phases[0].batches > 1.15 * told.phases[1].batches


def test_rate_warm_up_and_average_keep_their_samples(found):
  section = found[0]["stages"][STAGE]
  step = section["rows"] * section["row_samples"]
  assert abs(step / BATCH - 1) < 0.25  # rows of three samples, about
  factor = section["rate_factor"]
  ratio = step / BATCH
  want = 1.0 if abs(ratio - 1) <= 0.1 else math.sqrt(ratio)
  assert factor == pytest.approx(want)
  # 2e-3 was for a batch four times the recipe's.
  assert section["learning_rate"] == pytest.approx(1e-3 * factor)
  warm = section["warmup_steps"] * step
  assert abs(warm - 216) <= step / 2
  forgets = step * math.log(0.5) / math.log(section["ema_decay"])
  assert forgets == pytest.approx(HALF_LIFE)
  assert not section["measure_rows"]
  assert section["rows"] % section["accumulation"] == 0
  assert section["rows"] // section["accumulation"] <= 2  # as it had room for


def test_the_message_says_what_was_expected_and_how_to_keep_it(found):
  config, notes, _ = found
  assert len(notes) == 1 and "(9.00 were expected)" in notes[0]
  assert f"{config['stages'][STAGE]['steps']:,} steps" in notes[0]
  assert f"--config.stages.{STAGE}.measure_rows=False" in notes[0]


@pytest.mark.parametrize(
  "machine",
  [
    dict(accumulation=4),
    # As full_size.py writes the recipe for one with more devices.
    dict(rows=8, accumulation=1, steps=30, warmup_steps=3, ema_decay=0.8,
         learning_rate=4e-3, rate_factor=4.0),
  ],
)  # fmt: skip
def test_a_run_keeps_its_rows_on_another_machine(
  found, sources, monkeypatch, machine
):
  """Micro-batches alone follow the devices."""
  config, _, plans = found
  monkeypatch.setattr(summary, "of_phases", None)  # nothing is planned again
  again, _ = measured.config(given(sources, **machine), str(plans))
  section = dict(again["stages"][STAGE])
  fits = machine.get("rows", ROWS) // machine["accumulation"]
  assert section["rows"] // section.pop("accumulation") <= fits
  assert section == {
    k: v for k, v in config["stages"][STAGE].items() if k != "accumulation"
  }


def test_rows_that_do_not_split_over_the_devices_name_their_file(
  found, sources, monkeypatch
):
  config, _, plans = found
  rows = config["stages"][STAGE]["rows"]
  devices = types.SimpleNamespace(row_shards=lambda mesh: rows + 1)
  monkeypatch.setattr(measured, "sharding", devices)
  with pytest.raises(
    sections.ConfigError, match=rf"{rows} rows a batch, as .*rows-.*\.json says"
  ):
    measured.config(given(sources), str(plans))


def test_a_look_keeps_nothing(sources, tmp_path):
  measured.config(given(sources), str(tmp_path), keep=False)
  assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
  "change",
  [dict(steps=7), dict(rows=8), dict(row_samples=3.0), dict(stage_samples=99)],
)
def test_steps_that_are_not_the_stages_samples_are_refused(sources, change):
  """They would be lost: the number of samples decides."""
  with pytest.raises(
    sections.ConfigError, match=r"are not the stage's .* samples \([\d,]+ steps"
  ):
    measured.config(given(sources, **change), None)


def test_data_that_is_not_there_is_a_mistake_of_the_config(sources):
  config = given(sources)
  config["data"]["sources"]["drawing"] = "records:/no/such/folder"
  with pytest.raises(
    sections.ConfigError, match=f"config.stages.{STAGE}: .* does not open"
  ):
    measured.config(config, None)


def test_measured_rows_are_not_measured_again(found):
  config, _, plans = found
  assert measured.config(config, str(plans)) == (config, ())


def test_without_a_folder_it_is_the_same(found, sources):
  config, notes = measured.config(given(sources), None)
  assert (config, notes) == found[:2]
  json.dumps(config)


def test_a_stage_of_a_fixed_number_of_samples_is_refused(sources):
  with pytest.raises(
    sections.ConfigError, match="measure_rows is for planned rows.*now 8"
  ):
    measured.config(given(sources, samples_per_batch=8), None)
  for key in ("row_samples", "batch_samples", "stage_samples"):
    with pytest.raises(sections.ConfigError, match=f"needs .*{key}, now 0"):
      measured.config(given(sources, **{key: 0}), None)


def test_other_stages_are_left_alone(sources):
  asked = given(sources)
  assert measured.config(asked, None, only="another") == (asked, ())
