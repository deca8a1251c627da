"""A stage that loses samples or computes padding says what to set."""

import re

import pytest

from emma_jax.data.batching.row_layout import Layout
from emma_jax.training import fill

LAYOUT = Layout(
  rows=8,
  und_tokens=144,
  und_pictures=1,
  references=1,
  targets=2,
  height=96,
  width=96,
  und_patches=0,
  latent_channels=0,
  fusion="channel",
  reference_branch="gen",
)


def _advice(samples: int = 24, **measured: float) -> list[str]:
  named = {f"data/{name}": value for name, value in measured.items()}
  return fill.advice("s", LAYOUT, samples, named)


def _values(text: str) -> dict[str, int]:
  return {
    k: int(v) for k, v in re.findall(r"(rows|samples_per_batch)=(\d+)", text)
  }


@pytest.mark.smoke
@pytest.mark.parametrize("samples", [0, 24])
def test_good_rows_are_not_talked_of(samples):
  good = dict(fill=0.5, dropped=0.05, oversized=0.05)
  assert _advice(samples, **good) == []
  assert _advice(samples) == []


@pytest.mark.parametrize("dropped", [0.06, 0.33, 0.8])
def test_samples_without_room(dropped):
  """What is proposed holds as many samples as found room."""
  (text,) = _advice(dropped=dropped, fill=0.9)
  values = _values(text)
  assert f"{dropped:.0%} of the samples" in text
  assert values["rows"] >= 8 / (1 - dropped)
  assert values["samples_per_batch"] <= 24 * (1 - dropped)
  assert "targets" not in text


def test_too_small_and_empty_at_once_names_the_capacities():
  """A third dropped for want of targets, while the text's slots are empty."""
  (text,) = _advice(dropped=0.33, fill=0.25)
  assert "2 targets, 1 references" in text and "samples_per_batch=0" in text


@pytest.mark.parametrize("share", [0.1, 0.26, 0.49])
def test_empty_rows(share):
  """The proposal would fill rows, and not more than fill them."""
  (text,) = _advice(fill=share)
  values = _values(text)
  assert share < values["samples_per_batch"] / 24 * share <= 0.9
  assert share < share * 8 / values["rows"] <= 0.9
  (planned,) = _advice(0, fill=share)
  assert "emma-data plan" in planned and not _values(planned)


def test_records_longer_than_a_row():
  (text,) = _advice(0, oversized=0.2)
  assert "20% of the records" in text and "und_tokens" in text
