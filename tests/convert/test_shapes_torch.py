"""The exported file computes what is computed here, for every shipped config.

`python -m tests.convert.shapes` prints what these tests compare, as a table.
"""

import re

import pytest

from emma_jax.build import config_file
from tests.convert import shapes

# Two programs of float32 round to neighbouring levels here and there.
LEVELS = 1
# Of the first: native sizes that were trained, Qwen3's vocabulary, tied
# embeddings; of the second: native sizes by the sampler's choice.
FIRST = ("emma_4b:stage2", "tiny native")


@pytest.mark.torch
@pytest.mark.parametrize(
  "name",
  [
    pytest.param(name, marks=[] if name in FIRST else pytest.mark.slow)
    for name in shapes.SHAPES
  ],
)
def test_export_loads_and_computes_the_same(name, tmp_path):
  pytest.importorskip("torch")
  pytest.importorskip("tokenizers")
  row = shapes.compare(name, tmp_path / "out")
  print(shapes.line(row, [name]))
  assert row.equal == row.answers > 0
  assert row.drawing <= LEVELS and row.edit <= LEVELS


def test_every_shipped_config_has_a_shape_in_the_table():
  pytest.importorskip("tokenizers")
  assert tuple(shapes.groups()) == shapes.SHAPES
  shipped = {
    name
    for name, _ in config_file.available()
    if config_file.load(name)["model"]["kind"] == "emma"
  }
  named = {re.split("[: ]", name)[0] for name in shapes.CONFIGS}
  assert named == shipped
