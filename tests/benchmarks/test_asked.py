"""A prediction is used for the question it answers, and for no other."""

import dataclasses

import pytest

from emma_jax.benchmarks import aggregate, asked, folders, records
from emma_jax.benchmarks.items import BadItem, Picture
from emma_jax.benchmarks.records import BadRun, Prediction
from tests.benchmarks import toy

pytestmark = pytest.mark.smoke

SETTINGS = toy.settings(toy.benchmark())
DECIDES = {"weights": "w"}
ITEMS = [toy.item(n) for n in range(4)]


def predicted(tmp_path, items=ITEMS) -> folders.SetFolder:
  """A folder to which predictions of these items were added."""
  folders.begin(str(tmp_path), {"weights": "w"})
  place = folders.SetFolder(str(tmp_path), SETTINGS.name)
  place.note(SETTINGS, DECIDES, toy.source(items))
  made_with = records.digest(DECIDES)
  with records.Appender(place.part(0)) as out:
    out.add(
      Prediction(
        id=item.id,
        repeat=0,
        key=asked.of(item, SETTINGS).key(made_with, item.id, 0),
        settings=made_with,
        prompt="p",
        text=item.question,
      )
      for item in items
    )
  return place


def broken() -> bytes:
  raise BadItem("row 0: the picture is no base64")


CHANGES = {
  "question": dict(question="another question"),
  "picture": dict(pictures=(Picture("row 0", lambda: toy.png(99)),)),
  "no picture": dict(pictures=(Picture("row 0", broken),)),
}


@pytest.mark.parametrize("name", CHANGES)
def test_data_that_changed_since_is_not_scored(tmp_path, name):
  place = predicted(tmp_path)
  now = [dataclasses.replace(ITEMS[0], **CHANGES[name]), *ITEMS[1:]]
  with pytest.raises(BadRun, match=r"of n/0 .* another prompt or other pict"):
    aggregate.aggregate(
      toy.source(now), SETTINGS, place, {}, max_failed=1, seed=0
    )


@pytest.mark.parametrize("name", CHANGES)
def test_what_was_predicted_anew_since_takes_its_place(tmp_path, name):
  """As after a picture that could not be read was mended; and back again."""
  predicted(tmp_path, [dataclasses.replace(ITEMS[0], **CHANGES[name])])
  place = predicted(tmp_path)
  found, stale = asked.answered(toy.source(ITEMS), SETTINGS, place)
  assert (len(found), stale) == (4, 1)
  assert found["n/0", 0].text == ITEMS[0].question


def test_results_name_the_data_and_the_run_they_are_of(tmp_path):
  """Another answer in the data is another score, and said to be."""
  place = predicted(tmp_path)
  folders.begin(str(tmp_path), {"weights": "later"})
  (tmp_path / "data").write_text("mended")
  source = dataclasses.replace(
    toy.source(ITEMS), files=(str(tmp_path / "data"),)
  )
  found = aggregate.aggregate(source, SETTINGS, place, {}, max_failed=1, seed=0)
  (file,) = found["data"]["files"]
  assert file["size"] == len("mended")
  assert found["run"]["weights"] == "w"
