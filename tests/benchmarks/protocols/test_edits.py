import contextlib

from hypothesis import given, settings
from hypothesis import strategies as st
import pytest

from emma_jax.benchmarks import suite
from emma_jax.benchmarks.items import BadItem
from emma_jax.benchmarks.protocols import edits
from tests.benchmarks.protocols import edit_cases
from tests.benchmarks.protocols.edit_cases import HTML, Script, picture, seen

pytestmark = pytest.mark.smoke
SETS = ("gedit", "imgedit", "emu_edit", "rise")


@pytest.mark.parametrize("name", SETS)
def test_all_are_sets_of_edits_with_one_source(name):
  found = suite.find(name)
  assert (found.kind, found.task, list(found.prompts)) == (
    "editing",
    "edit",
    ["plain"],
  )
  assert found.judge and found.protocol.endswith(".")
  category = {
    "gedit": "ps_human",
    "imgedit": "add",
    "emu_edit": "local",
    "rise": "temporal_reasoning",
  }[name]
  item = edit_cases.item(category, picture(), picture(), reference="older")
  request = found.prompts["plain"](item)
  assert request.text == "make it {blue}"
  assert request.pictures == item.pictures[:1]


@pytest.mark.parametrize("name", ["gedit", "imgedit", "rise"])
def test_an_unknown_category_is_told_before_anything_is_drawn(name):
  with pytest.raises(ValueError, match="'repaint' is no"):
    suite.find(name).prompts["plain"](edit_cases.item("repaint"))


def test_pictures_are_upright_and_rgb():
  turned = picture((64, 48), kind="JPEG", turned=6)
  assert edits.decode(turned, "x").size == (48, 64)
  assert seen(edits.upright(turned, "x"))[:2] == ("PNG", (48, 64))
  clear = edits.decode(picture(colour=(1, 2, 3, 0)), "x")
  assert clear.mode == "RGB" and clear.getpixel((0, 0)) == (1, 2, 3)


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_what_needs_no_change_is_sent_byte_by_byte(kind):
  file = picture(kind=kind)
  assert edits.upright(file, "x") == file
  assert seen(edits.upright(picture(kind="WEBP"), "x"))[0] == "PNG"


@pytest.mark.parametrize("data", [b"", HTML.encode(), picture()[:60]])
def test_no_picture_names_its_place(data):
  with pytest.raises(BadItem, match="row 3: no picture"):
    edits.decode(data, "row 3")


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
@settings(max_examples=40, deadline=None)
@given(st.integers(0, 400), st.binary(max_size=6))
def test_damaged_pictures_are_bad_items_or_pictures(place, patch):
  file = picture(kind="JPEG")
  damaged = file[:place] + patch + file[place + len(patch) :]
  with contextlib.suppress(BadItem):
    assert edits.decode(damaged, "x").mode == "RGB"


def test_one_edit_that_fails_does_not_take_the_others():
  """And what fails has the lowest score, and says why."""
  reply = "Compliance: 4\nVisual: 4\nPhysical: 4"

  class PerRepeat(Script):
    def __call__(self, call):
      repeat = call.id.split("/")[2]
      self.replies = {"marks": self.by_repeat[repeat]}
      return super().__call__(call)

  judge = PerRepeat({})
  judge.by_repeat = {"0": reply, "1": HTML, "2": reply}
  case = edit_cases.case(
    "imgedit",
    "original",
    edit_cases.item("add"),
    judge,
    made=[picture(), picture(), picture()],
  )
  found = suite.find("imgedit").score(case)
  assert [s.value for s in found] == [4.0, 1.0, 4.0]
  assert [s.failure for s in found] == ["", "judge:unparsable", ""]
