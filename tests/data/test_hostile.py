"""Every hostile file, line and record has its stated outcome, everywhere.

Three roads, which must agree: `emma-data validate`, conversion to records, and
the batches of training, of which none may shift.
"""

from pathlib import Path
import re

import pytest

from emma_jax.data.curation import validation
from emma_jax.data.ingest import job as job_lib
from emma_jax.data.ingest import part
from emma_jax.data.loading import dataset
from emma_jax.data.pictures import images
from emma_jax.data.pictures.images import BadRecord
from emma_jax.data.records.source import RecordsSource
from emma_jax.data.text.tokenizer import TinyTokenizer
from tests import neutral
from tests.data import hostile, made

PICTURES = hostile.pictures()
LINES = hostile.lines()
RECORDS = hostile.records()
# What only the packing of a run can say, since it depends on its layout.
OF_LAYOUT = "layout."


def _batches(spec: str, count: int) -> dataset.BatchDataset:
  """One epoch is one batch."""
  config = neutral.data_config(
    seed=0,
    sources={"a": spec},
    phases=(neutral.phase({"a": 1}),),
    samples_per_batch=count,
    layout=neutral.layout(
      rows=count,
      und_tokens=200,
      und_pictures=1,
      references=1,
      targets=1,
      height=64,
      width=64,
    ),
    framing=neutral.framing(height=64, width=64),
  )
  return dataset.open_pipeline(config, made.TOKENIZER)


def _number(where: str) -> int:
  """Of the case: lines count from 1, records from 0."""
  lines, records = re.fullmatch(r".*?(?::(\d+)|\[(\d+)\])", where).groups()
  return int(lines) - 1 if lines else int(records)


def _trained(spec: str, count: int) -> dict[int, str]:
  """What training says of each case that it cannot use."""
  source = _batches(spec, count)
  info = source[0].info
  assert info.drawn == count and info.packed.samples_per_task
  found = {_number(b.where): b.reason for b in info.bad}
  draws = source.mixture.batch_plan(0)
  found |= {draws[d.index].index: d.reason for d in info.packed.dropped}
  assert len(found) == len(info.unusable)
  return found


def _validated(spec: str) -> dict[int, str]:
  found = validation.validate(spec, made.TOKENIZER)
  return {_number(b.where): b.reason for b in found.bad}


def _wanted(cases: list[hostile.Case]) -> dict[int, str]:
  return {
    i: c.outcome for i, c in enumerate(cases) if c.outcome != hostile.USED
  }


def _check(found: dict[int, str], wanted: dict[int, str], cases):
  names = lambda keys: sorted(cases[i].name for i in keys)
  assert names(found) == names(wanted)
  for i, words in wanted.items():
    assert words in found[i], f"{cases[i].name}: {found[i]}"


def test_there_are_many():
  assert len(PICTURES) >= 40 and len(PICTURES + LINES + RECORDS) >= 80


@pytest.mark.parametrize("case", PICTURES, ids=lambda case: case.name)
def test_pictures_one_by_one(case: hostile.Case):
  if case.outcome != hostile.USED:
    with pytest.raises(BadRecord, match=re.escape(case.outcome)):
      images.load_picture(case.value, "here")
    return
  picture_YXC = images.load_picture(case.value)
  y, x, _ = picture_YXC.shape
  assert (y, x) == images.measure_picture(case.value)
  assert case.size in (None, (y, x))
  if case.pixel:
    near = abs(picture_YXC[y // 2, x // 2].astype(int) - case.pixel)
    assert near.max() <= 2


@pytest.mark.parametrize("kind", ["pictures", "lines"])
def test_files_on_all_roads(tmp_path, kind: str):
  cases = PICTURES if kind == "pictures" else LINES
  path = getattr(hostile, f"write_{kind}")(tmp_path, cases)
  wanted = _wanted(cases)
  of_records = {i: w for i, w in wanted.items() if OF_LAYOUT not in w}
  spec = f"jsonl:{path}"
  count = len(path.read_bytes().splitlines())
  _check(_validated(spec), of_records, cases)
  _check(_trained(spec, count), wanted, cases)
  card = job_lib.run(
    job_lib.Job(
      inputs=[str(path)],
      out=str(tmp_path / "set"),
      workers=0,
      max_rejected=1,
      maker=part.Recipe(form="captions", tokenizer=made.TOKENIZER),
    )
  )
  assert card.rejected == len(of_records)
  assert card.records == count - len(of_records)
  # What was let in can be trained on.
  spec = f"records:{tmp_path / 'set'}"
  assert not _validated(spec)
  assert len(_trained(spec, card.records)) == len(wanted) - len(of_records)


def test_records_on_both_roads(tmp_path):
  folder = hostile.write_records(tmp_path, RECORDS)
  wanted = _wanted(RECORDS)
  # Their side file is of other records; only what is read counts here.
  source = RecordsSource(str(folder))
  found = {}
  for i in range(len(source)):
    try:
      for picture in source.stored(i).pictures:
        images.load_picture(picture)
    except BadRecord as error:
      found[i] = error.reason
  _check(found, wanted, RECORDS)
  _check(_trained(f"records:{folder}", len(RECORDS)), wanted, RECORDS)
  bad = _validated(f"records:{folder}")
  assert set(wanted) <= set(bad)


def outcomes(folder: Path) -> list[tuple[str, ...]]:
  """(kind, case, reason of validate, of training, the words stated for it)."""
  rows = []
  # The side file of the records is of others: another tokenizer's lengths are
  # not compared.
  other = TinyTokenizer(["green"])
  for kind, cases in (
    ("picture", PICTURES),
    ("line", LINES),
    ("record", RECORDS),
  ):
    place = folder / kind
    place.mkdir()
    path = getattr(hostile, f"write_{kind}s")(place, cases)
    spec, count = f"records:{path}", len(cases)
    if kind != "record":
      spec, count = f"jsonl:{path}", len(path.read_bytes().splitlines())
    trained = _trained(spec, count)
    validated = {
      _number(b.where): b.reason for b in validation.validate(spec, other).bad
    }
    said = lambda found, i: found.get(i, hostile.USED).replace(str(folder), "")[
      :110
    ]
    rows += [
      (kind, c.name, said(validated, i), said(trained, i), c.outcome)
      for i, c in enumerate(cases)
    ]
  return rows


def test_the_page_of_outcomes_is_what_the_command_prints(tmp_path, repo):
  rows = outcomes(tmp_path)
  page = (repo / "emma_jax" / "data" / "outcomes.md").read_text()
  assert hostile.markdown(rows) == page, (
    "python -m tests.data.hostile --markdown > emma_jax/data/outcomes.md"
  )
  assert len(rows) >= 80
  for _, name, validated, trained, words in rows:
    for found in (validated, trained):
      # What only a layout can say, validate does not.
      if not (found is validated and OF_LAYOUT in words):
        assert words in found, name


def test_the_page_on_data_states_these_outcomes(repo):
  """Limits and counts in emma_jax/data/README.md are the code's."""
  page = (repo / "emma_jax" / "data" / "README.md").read_text()
  assert f"{len(PICTURES + LINES + RECORDS)} bad files" in page
  assert f"1:{images.MAX_ASPECT}" in page
  assert f"{images.MAX_PIXELS // 10**6} million" in page
  assert f"{images.MAX_BYTES // 2**20} MB" in page
  for name in images.FORMATS:
    assert name.replace("JPEG2000", "JPEG 2000").lower() in page.lower()
