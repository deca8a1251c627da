"""Two readings of which pictures are STEM: they differ in charts alone."""

import pytest

from emma_jax.data.curation import selection, stem_labels
from emma_jax.structs import STEM_GENERAL, STEM_SCIENCE
from tests.data import made
from tests.data.curation import common
from tests.data.curation.test_selection import _ask

SCIENCE = (
  "ai2d(cauldron,llava_format)",
  "tqa(cauldron,llava_format)",
  "MathV360K_TQA",
  "Geometry3K(MathV360K)",
  "GEOS(MathV360K)",
  "geo170k(align)",
  "UniGeo(MathV360K)",
  "scienceqa(nona_context)",
  "mathqa",
  "tabmwp(cauldron)",
  "CLEVR-Math(MathV360K)",
  "PMC-VQA(MathV360K)",
)
CHARTS = (
  "chartqa(cauldron,llava_format)",
  "chart2text(cauldron)",
  "dvqa(cauldron,llava_format)",
  "FigureQA(MathV360K)",
  "CoSyn_400k_chart",
  "infographic_vqa_llava_format",
  "vistext(cauldron)",
)
# Nobody knows by name alone: these are asked.
OTHERS = ("sharegpt4v(coco)", "textvqa", "VQA-AS(MathV360K)", "visual7w", "vsr")


def label(reading: str, source: str) -> int | None:
  maker = selection.LabelStem(
    base=common.recipe(),
    rules=stem_labels.READINGS[reading].rules,
    missing="keep",
  )
  return maker.label(_ask("a", source), "here")[0]


@pytest.mark.parametrize("reading", stem_labels.READINGS)
def test_science_is_stem_in_both(reading):
  assert {s: label(reading, s) for s in SCIENCE} == dict.fromkeys(
    SCIENCE, STEM_SCIENCE
  )
  assert {s: label(reading, s) for s in OTHERS} == dict.fromkeys(OTHERS)


def test_a_chart_is_general_by_the_figure_and_stem_by_the_summary():
  for reading, wanted in (("figure", STEM_GENERAL), ("summary", STEM_SCIENCE)):
    found = {s: label(reading, s) for s in CHARTS}
    assert found == dict.fromkeys(CHARTS, wanted), reading
  figure, summary = (
    stem_labels.READINGS[name].prompt for name in ("figure", "summary")
  )
  assert "a chart, plot, table or infographic is not enough" in figure
  assert "charts" in summary
  assert all("{text}" in p and '{"stem": true}' in p for p in (figure, summary))


def test_columns_of_finevision_count_too(tmp_path):
  """Its parts are named by the column `source`."""
  import dataclasses

  one = dataclasses.replace(_ask("a", None), provenance={"source": "chartqa"})
  folder = made.dataset(tmp_path / "set", [one])
  maker = selection.LabelStem(
    base=common.recipe(), rules=stem_labels.READINGS["summary"].rules
  )
  found, _ = common.run(maker, folder, out=tmp_path / "out")
  assert found[0].record.stem == STEM_SCIENCE
