import json

from hypothesis import given, settings
from hypothesis import strategies as st
import pytest

from emma_jax.benchmarks import suite
from emma_jax.benchmarks.data import folder, sets
from emma_jax.benchmarks.items import BadItem, Item
from emma_jax.benchmarks.protocols import geneval
from emma_jax.benchmarks.scoring import geneval as scoring
from emma_jax.judge.base import Reply
from emma_jax.scorers.classes import NAMES
from tests.benchmarks import golden
from tests.benchmarks.protocols import drawn

pytestmark = pytest.mark.smoke
QUICK = settings(max_examples=60, deadline=None)
(BENCHMARK,) = geneval.BENCHMARKS
# Where one object stands, seen from another at 0.
PLACES = {
  "left of": (-100, 0),
  "right of": (100, 0),
  "above": (0, -100),
  "below": (0, 100),
}


def item(tag="single_object", **checks) -> Item:
  return Item(
    id="00000",
    group="00000",
    question="a photo",
    meta={"category": tag, "checks": {"tag": tag, **checks}},
  )


def wanted(name, count=1, **more) -> dict:
  return {"class": name, "count": count, **more}


def box(x=0, y=0, score=0.95, **more) -> dict:
  return {"box": [x, y, x + 10, y + 10], "score": score, **more}


def reply(**objects) -> str:
  return json.dumps(
    {"objects": {k.replace("_", " "): v for k, v in objects.items()}}
  )


def saying(text, calls=None):
  """A judge of one reply, that keeps what it was asked."""

  def judge(call):
    if calls is not None:
      calls.append(call)
    return text

  return judge


def fitting(checks) -> str:
  """Detections of which all checks hold."""
  objects: dict[str, list[dict]] = {}
  for place, check in enumerate(checks["include"]):
    x, y = 20 * place, 0
    if "position" in check:
      relation, target = check["position"]
      x, y = PLACES[relation]
      x += 20 * target
    color = {"color": check["color"]} if "color" in check else {}
    objects[check["class"]] = [
      box(x + n, y, **color) for n in range(check["count"])
    ]
  return json.dumps({"objects": objects})


@pytest.mark.parametrize("split", ["test", "long"])
def test_all_real_prompts(shared_dir, tmp_path, split):
  """All are asked as the protocol says; all that fits is right, and nothing is
  wrong: the published mean of six tags is 1, or 0."""
  (tmp_path / "geneval").symlink_to(shared_dir / "data/benchmarks/geneval")
  items = folder.open_set(str(tmp_path), "geneval", split).items
  assert len(items) == 553
  right, wrong = [], []
  for one in items:
    checks, calls = one.meta["checks"], []
    found = drawn.scores(BENCHMARK, one, saying(fitting(checks), calls))
    assert drawn.values(found) == [1.0] * 4
    right += [(one, score) for score in found]
    found = drawn.scores(BENCHMARK, one, saying(reply()))
    assert drawn.values(found) == [0.0] * 4
    wrong += [(one, score) for score in found]
    assert [c.pictures for c in calls] == [
      (drawn.picture(n),) for n in range(4)
    ]
    assert calls[3].id == f"geneval/{one.id}/3/detect" and not calls[3].text
    names, colored = calls[0].options["classes"], calls[0].options["colors"]
    assert set(names) == {x["class"] for x in checks["include"]}
    assert set(names) <= set(NAMES)
    assert set(colored) == {
      x["class"] for x in checks["include"] if "color" in x
    }
    assert BENCHMARK.prompts["plain"](one).text == one.question
  assert drawn.mean_of_strata(BENCHMARK, right) == pytest.approx(1)
  assert drawn.mean_of_strata(BENCHMARK, wrong) == 0
  assert {BENCHMARK.stratum(one, "original") for one in items} == set(
    scoring.TAGS
  )


def test_class_names_are_the_originals(shared_dir):
  path = shared_dir / "data/benchmarks/geneval/object_names.txt"
  assert list(NAMES) == path.read_text().split("\n")[:80]


def test_the_originals_numbers(shared_dir):
  """Golden cases, through a judge that tells what the original's detector and
  classifier said."""
  found = [
    case
    for case in golden.cases(shared_dir, "GenEval")
    if case["metric"] in ("detector_thresholds", "evaluate")
  ]
  assert len(found) > 10
  for case in found:
    text = told_of(case["inputs"])
    checks = {"tag": "single_object"} | case["inputs"]["metadata"]
    got = drawn.scores(BENCHMARK, item(**checks), saying(text), pictures=1)
    assert drawn.values(got) == [float(case["expected"]["correct"])], case["id"]


def told_of(inputs) -> str:
  """A reply of the boxes of a golden case, and of the colours of the best."""
  colors = inputs.get("colors") or {}
  boxes = inputs.get("detections") or {
    # Ranked before, with scores that do not say so.
    name: [[*one[:4], 0.95 - n / 1000] for n, one in enumerate(those)]
    for name, those in inputs["objects"].items()
  }
  objects = {}
  for name, those in boxes.items():
    best = sorted(those, key=lambda one: -one[4])
    named = dict(zip(map(tuple, best), colors.get(name, ()), strict=False))
    objects[name] = [
      {"box": one[:4], "score": one[4], "color": named.get(tuple(one))}
      for one in those
    ]
  return json.dumps({"objects": objects})


@QUICK
@given(
  st.lists(st.tuples(st.sampled_from(scoring.TAGS), st.booleans()), min_size=1)
)
def test_the_published_number_is_that_of_scoring(pairs):
  found = []
  for tag, correct in pairs:
    one = item(tag, include=[wanted("cup")])
    text = reply(cup=[box()] if correct else [])
    found += [(one, s) for s in drawn.scores(BENCHMARK, one, saying(text))]
  rows = [{"tag": tag, "correct": right} for tag, right in pairs]
  got = drawn.mean_of_strata(BENCHMARK, found)
  assert got == pytest.approx(scoring.overall(rows))


def test_thresholds_and_counts_are_applied_here():
  counting = item(
    "counting", include=[wanted("cup", 2)], exclude=[wanted("cup", 3)]
  )
  score = lambda one, *boxes: drawn.values(
    drawn.scores(BENCHMARK, one, lambda c: reply(cup=list(boxes)), pictures=1)
  )
  assert score(counting, box(), box(20)) == [1]
  assert score(counting, box(), box(20), box(40)) == [0]
  assert score(counting, box(), box(20), box(40, score=0.9)) == [1]
  assert score(item(include=[wanted("cup")]), box(score=0.3)) == [0]
  assert score(item(include=[wanted("cup")]), box(score=0.31)) == [1]


@pytest.mark.parametrize(
  "text",
  [
    "",
    "two dogs",
    "[]",
    '{"boxes": {}}',
    '{"objects": []}',
    '{"objects": {"dog": {"box": [0, 0, 1, 1], "score": 1}}}',
    '{"objects": {"dog": [[0, 0, 1, 1, 0.9]]}}',
    '{"objects": {"dog": [{"box": [0, 0, 1], "score": 0.9}]}}',
    '{"objects": {"dog": [{"box": [0, 0, 1, 1]}]}}',
    '{"objects": {"dog": [{"box": [0, 0, 1, 1], "score": "0.9"}]}}',
    '{"objects": {"dog": [{"box": [0, 0, 1, NaN], "score": 0.9}]}}',
    '{"objects": {"dog": [{"box": [9, 9, 1, 1], "score": 0.9}]}}',  # x, y, w, h
    '{"objects": {"dog": [{"box": [0, 0, 1, 1], "score": true}]}}',
    '{"objects": {"dog": [{"box": [0, 0, 1, 1], "score": 1, "color": "x"}]}}',
    '{"objects": {"mouse": []}}',  # COCO's name of a computer mouse
    '{"objects": {"dog": [{"box": [0, 0, 1, 1], "score": 1%s}]}}' % ("0" * 400),
    "[" * 100_000,
  ],
)
def test_replies_that_cannot_be_read(text):
  one = item(include=[wanted("dog")])
  found = drawn.scores(BENCHMARK, one, saying(text))
  assert drawn.failures(found) == ["judge:unparsable"] * 4


def test_a_colour_is_needed_of_boxes_that_are_looked_at_alone():
  one = item("colors", include=[wanted("cup", color="red")])
  score = lambda *boxes: drawn.scores(
    BENCHMARK, one, lambda c: reply(cup=list(boxes)), pictures=1
  )
  red = box(color="red")
  assert drawn.values(score(red, box(20, score=0.5), box(score=0.1))) == [1]
  assert drawn.values(score(box(color="blue"))) == [0]
  assert drawn.failures(score(box())) == ["judge:unparsable"]


def test_one_picture_without_a_reply_leaves_the_others():
  one = item(include=[wanted("dog")])
  judge = lambda call: (
    Reply(status="unreachable") if "/2/" in call.id else reply(dog=[box()])
  )
  found = drawn.scores(BENCHMARK, one, judge)
  assert drawn.failures(found) == ["", "", "judge:unreachable", ""]
  assert [s.value for s in found] == [1, 1, 0, 1]


def test_an_item_without_checks_is_an_error():
  bare = Item(id="7", group="7", question="a dog")
  with pytest.raises(BadItem, match="The item '7' has no 'checks' in its meta"):
    drawn.scores(BENCHMARK, bare, saying(reply()))


JSON = st.recursive(
  st.none() | st.booleans() | st.floats() | st.text(max_size=3),
  lambda inner: (
    st.lists(inner, max_size=4)
    | st.dictionaries(
      st.sampled_from(["objects", "dog", "box", "score", "color"]),
      inner,
      max_size=4,
    )
  ),
)
BOXES = st.lists(
  st.builds(
    lambda x, y, score, color: box(x, y, score, color=color),
    *(st.floats(0, 99), st.floats(0, 99), st.floats(0, 1)),
    st.sampled_from(scoring.COLOURS),
  ),
  max_size=20,
)


@QUICK
@given(JSON | st.builds(lambda b: {"objects": {"dog": b}}, BOXES))
def test_any_reply_is_a_score_of_0_or_1_or_a_failure(content):
  one = item("color_attr", include=[wanted("dog", 1, color="red")])
  text = json.dumps(content)
  for score in drawn.scores(BENCHMARK, one, saying(text)):
    assert score.value in (0, 1)
    assert score.failure in ("", "judge:unparsable")


@pytest.mark.parametrize(
  "name",
  ["geneval", "dpg", "geneval2", "wise_verified", "wise_legacy", "longtext"],
)
def test_benchmarks_of_drawing_are_in_the_suite_and_have_data(name):
  found = suite.find(name)
  assert (found.name, found.kind, found.task) == (name, "drawing", "draw")
  assert name in sets.SETS and found.protocol and found.lowest == 0
