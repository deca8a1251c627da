"""Every chain of configs/data, from files to results, by a local server."""

import itertools

import pytest

from emma_jax.build import chain as build_chain
from emma_jax.build import config_file
from emma_jax.data.curation import chain as chain_lib
from emma_jax.data.curation import fonts, validation
from emma_jax.data.ingest.job import ConversionError
from emma_jax.data.records import schema
from emma_jax.structs import Drawing
from tests.data import made
from tests.data.curation.fake_server import Fake, serve

COLOURS = ("#102030", "#804020", "#20a0c0", "#f0f0f0", "#4080a0", "#c01060")
# Pictures of the tests are smaller than users', and their judges are strict.
SMALL = {
  "laion": {"steps.2_size.min_side": "8", "steps.6_t2i.minimum": "1"},
  "t2i_1k": {"steps.2_size.min_pixels": "9", "steps.3_aesthetic.minimum": "1"},
  "rendered_text": {
    "steps.1_fonts.count": "3",
    "steps.1_fonts.sizes": "((128,160),)",
    "steps.2_generated.count": "3",
  },
  "x2i2": {"steps.3_size.min_side": "8", "steps.4_judged.min_judge": "1"},
  "omniedit": {
    "steps.2_size.min_side": "8",
    "steps.4_judged.min_judge": "1",
    "steps.4_judged.min_face": "0",
  },
  "synthetic_edits": {
    "steps.2_size.min_side": "8",
    "steps.5_pairs.min_judge": "1",
    "steps.5_pairs.min_face": "0",
  },
  "text_edits": {"steps.2_size.min_side": "8", "steps.5_pairs.min_judge": "1"},
  "quality": {"steps.2_best.counts": "(('drawing', 2), ('editing', 1))"},
  "stem": {},
}


def rows(name: str, fake: Fake, folder) -> list[dict]:
  """Such as the set's makers publish them."""
  files = []
  for n, colour in enumerate(COLOURS):
    picture = made.picture(colour, 64, 48)
    if name == "text_edits":
      picture = fake.say(("SALE", "Exit", "Bakery", "OPEN", "Tea", "Pull")[n])
    (folder / f"{n}.png").write_bytes(picture)
    files.append(f"{n}.png")
  if name == "x2i2":
    return [
      {
        "task_type": "edit",
        "instruction": f"make it {n}",
        "input_images": [a] if n else [],
        "output_image": b,
      }
      for n, (a, b) in enumerate(itertools.pairwise(files))
    ]
  if name == "omniedit":
    return [
      {
        "omni_edit_id": str(n),
        "src_img": a,
        "edited_img": b,
        "edited_prompt_list": ["x", f"add the hat {n}"],
        "o_score": 5.0 + n,
      }
      for n, (a, b) in enumerate(itertools.pairwise(files))
    ]
  if name == "stem":
    said = ("what?", "the triangle's area?")
    parts = ("ai2d", "chartqa", None, None)
    return [
      {
        "id": str(n),
        "image": files[n],
        "conversations": [
          {"from": "human", "value": said[n % 2]},
          {"from": "gpt", "value": "4"},
        ],
        **({"data_source": parts[n]} if parts[n] else {}),
      }
      for n in range(4)
    ]
  return [{"id": f, "image": f, "caption": f"old {f}"} for f in files]


def made_inputs(name: str, fake: Fake, tmp_path) -> list[str]:
  if name == "rendered_text":
    return []
  if name == "quality":
    draw = lambda colour: schema.Stored(
      record=Drawing(prompt="p", picture=made.picture(colour), id=colour)
    )
    stored = [*map(draw, COLOURS), made.samples()[3]]
    return [f"records:{made.dataset(tmp_path / 'sft', stored)}"]
  return [str(made.jsonl(tmp_path / "rows.jsonl", *rows(name, fake, tmp_path)))]


@pytest.mark.parametrize("name", SMALL)
def test_a_set_is_made(name, tmp_path):
  if name == "rendered_text":
    try:
      fonts.find("en")
    except ConversionError:
      pytest.skip("no fonts; install fonts-dejavu-core")
  fake = Fake(urls=name == "text_edits")
  config = config_file.load(f"data/{name}", SMALL[name])
  inputs = made_inputs(name, fake, tmp_path)
  with serve(fake) as url:
    for server in config.servers.values():
      server.url = url
      server.price = dict(input=1.0, output=2.0, picture=0.1)
    chain = build_chain.chain(config, str(tmp_path / "out"), inputs, 0, 4)
    reports = {r.name: r for r in chain_lib.run(chain)}
  assert set(fake.answered.values()) <= {1} and fake.number > 0
  assert sum(r.paid for r in reports.values()) > 0
  for step in chain.results():
    report = reports[step]
    assert report.records_out > 0, step
    found = validation.validate(f"records:{report.folder}", made.TOKENIZER)
    assert not found.errors and not found.chinese
  check = globals().get(f"check_{name}")
  if check:
    check(reports)


def check_laion(reports):
  """Questions and drawings come from the same captions, asked once."""
  i2t, t2i = reports["5_i2t"], reports["6_t2i"]
  assert i2t.records_out == reports["4_caption"].spent["caption"].calls == 6
  assert t2i.records_in == 6


def check_t2i_1k(reports):
  both = reports["6_portrait"], reports["7_general"]
  assert sum(r.records_out for r in both) == both[0].records_in


def check_x2i2(reports):
  assert reports["2_edits"].left_out == {"task": 1}


def check_omniedit(reports):
  assert reports["3_score"].left_out == {"o_score": 3}


def check_text_edits(reports):
  """OCR passes what the editor wrote; both ways are there."""
  last = reports["5_pairs"]
  assert last.records_out == 12 and not last.left_out
  assert last.spent["ocr"].calls == 6


def check_quality(reports):
  assert reports["2_best"].left_out == {"not chosen": 4}


def check_stem(reports):
  """By rule where the part is known (a chart is general), else asked."""
  assert reports["2_label"].spent["stem"].calls == 2
  assert reports["3_stem"].records_out == 2
  assert reports["4_general"].records_out == 2
