"""What a data sheet shows is read back from the arrays that training gets."""

import numpy as np

from configs import files as files_config
from emma_jax.build import data as build_data
from emma_jax.build import sections
from emma_jax.evals import data_sheet
from tests.data import made


def _batches(folder):
  config = sections.plain(files_config.get_config())
  config["data"]["sources"] = {"a": f"records:{folder}"}
  config["data"] |= dict(text_dropout=0.0, reference_dropout=0.0)
  config["stages"]["2_finetuning"]["mixture"] = [[0.0, {"a": 1.0}]]
  return build_data.batches(config, "2_finetuning")


def test_a_drawn_row_is_the_row(tmp_path):
  """Tokens, pictures and mask read back from the arrays are the sample's."""
  folder = made.dataset(tmp_path / "set", made.tasks_in_turn(), shards=2)
  source = _batches(folder)
  host = source[0]
  seen = set()
  for row, placed in enumerate(host.info.packed.placed):
    slots = data_sheet.read_row(host.batch, row, source.config.layout)
    assert slots.slot.tolist() == list(range(slots.slot.size))
    for number, index in enumerate(placed, start=1):
      draw = source.mixture.batch_plan(0)[index]
      sample = source.to_sample(source._opened["a"][draw.index])
      seen.add(sample.task)
      at = slots.segment == number
      text = slots.token[at & (slots.picture < 0)].tolist()
      parts = [p for p in sample.parts if hasattr(p, "tokens")]
      assert text == [t for p in parts for t in p.tokens]
      learned = slots.token[at & slots.learned & (slots.noisy == 0)].tolist()
      assert learned == [t for p in parts if p.loss for t in p.tokens]
      shown = [
        slots.pictures[p]
        for p in dict.fromkeys(
          slots.picture[at & (slots.picture >= 0)].tolist()
        )
      ]
      wanted = [p for p in sample.parts if not hasattr(p, "tokens")]
      for (_, pixels), part in zip(shown, wanted, strict=True):
        np.testing.assert_array_equal(pixels, part.pixels_YXC)
      outside = slots.allowed[np.ix_(at, ~at)]
      assert not outside.any() and slots.allowed[at][:, at].any()
  assert seen == {"understanding", "drawing", "editing"}
