"""GenEval 2, WISE, LongText-Bench and RISEBench from small files of the shapes
that their repositories have."""

import json
import pathlib

import pytest

from emma_jax.benchmarks.data import extras, folder, sets, wise_rows
from emma_jax.benchmarks.items import BadItem, Missing

pytestmark = pytest.mark.smoke


def put(path: pathlib.Path, *rows) -> pathlib.Path:
  """JSON lines, or a list, by the file's name."""
  path.parent.mkdir(parents=True, exist_ok=True)
  lines = [json.dumps(row, ensure_ascii=False) for row in rows]
  text = "\n".join(lines) + "\n"
  if path.suffix == ".json":
    text = f"[{', '.join(lines)}]"
  path.write_text(text, encoding="utf-8")
  return path


GENEVAL2 = {
  "prompt": "two green pigs",
  "atom_count": 3,
  "vqa_list": [["How many pigs are in the image?", "two"], ["Green?", "Yes"]],
  "skills": ["count", "attribute"],
}
LONGTEXT = {
  "category": "sign",
  "length": "short",
  "prompt": "a sign",
  "text": ["OPEN", "DAY AND NIGHT"],
  "text_length": 4,
  "prompt_id": 7,
}
RISE = {
  "index": "temporal_reasoning_1",
  "category": "temporal_reasoning",
  "instruction": "Draw it in a year.",
  "image": "temporal_reasoning_images/1.png",
  "reference": "a tree",
}


def wise(number: int, prompt="a cake") -> dict:
  return {
    "Prompt": prompt,
    "Explanation": "a mooncake",
    "Category": "Cultural knowledge",
    "Subcategory": "Festival",
    "prompt_id": number,
  }


def test_geneval2(tmp_path):
  path = tmp_path / "geneval2" / "geneval2_data.jsonl"
  put(path, GENEVAL2, GENEVAL2 | {"prompt": "a pig"})
  first, second = folder.open_set(str(tmp_path), "geneval2").items
  assert (first.id, second.id) == ("00000", "00001")
  assert first.question == "two green pigs"
  assert first.meta == {
    "questions": (
      ("How many pigs are in the image?", "two"),
      ("Green?", "Yes"),
    ),
    "skills": ("count", "attribute"),
    "atom_count": 3,
  }


def test_longtext_of_both_languages_in_a_checkout(tmp_path):
  place = tmp_path / "longtext" / "textbench"
  put(place / "text_prompts.jsonl", LONGTEXT)
  put(place / "text_prompts_zh.jsonl", LONGTEXT | {"text": ["每日"]})
  (english,) = folder.open_set(str(tmp_path), "longtext").items
  (chinese,) = folder.open_set(str(tmp_path), "longtext", "zh").items
  assert english.id == "7" and english.meta["text"] == ("OPEN", "DAY AND NIGHT")
  assert (english.meta["language"], chinese.meta["language"]) == ("en", "zh")
  assert chinese.meta["text"] == ("每日",)
  (place / "text_prompts_zh.jsonl").unlink()
  with pytest.raises(Missing, match="LongText-Bench \\(zh\\) is not in"):
    folder.open_set(str(tmp_path), "longtext", "zh")


SCRIPT = '''
import requests
API = {"role": "none"}
def build_evaluation_messages(prompt_data, image):
  return [
    {"role": "system", "content": [{"type": "text", "text": "Be strict."}]},
    {"role": "user", "content": [
      {"type": "text", "text": f"""Is {{this}} it?
PROMPT: "{prompt_data['Prompt']}"
EXPLANATION: "{prompt_data['Explanation']}"
"""},
      {"type": "image_url", "image_url": {"url": f"data:{image}"}},
    ]},
  ]
raise SystemExit("this is not to be run")
'''


def test_wise_verified_in_a_checkout_with_its_judges_prompt(tmp_path):
  own = tmp_path / "wise_verified"
  parts = own / "data_verified"
  put(parts / "cultural_common_sense_verified.json", wise(2), wise(1))
  put(parts / "spatio-temporal_reasoning_verified.json", wise(530))
  put(parts / "natural_science_verified.json", wise(1000))
  put(parts / "merge.json", wise(1))  # the same again
  items = folder.open_set(str(tmp_path), "wise_verified").items
  assert [i.id for i in items] == ["1", "2", "530", "1000"]
  assert [i.meta["category"] for i in items[1:]] == [
    "CULTURE",
    "SPACE",
    "CHEMISTRY",
  ]
  assert items[0].meta["explanation"] == "a mooncake"
  assert "judge_prompt" not in items[0].meta
  (own / "vllm_eval.py").write_text(SCRIPT)
  found = folder.open_set(str(tmp_path), "wise_verified")
  assert found[0].meta["judge_prompt"] == {
    "system": "Be strict.",
    "user": 'Is {this} it?\nPROMPT: "{Prompt}"\nEXPLANATION: "{Explanation}"\n',
  }
  assert str(own / "vllm_eval.py") in found.files


def test_wise_verified_merged_beside_each_other(tmp_path):
  own = tmp_path / "wise_verified"
  put(own / "merge.json", wise(3), wise(401))
  items = folder.open_set(str(tmp_path), "wise_verified").items
  assert [i.id for i in items] == ["3", "401"]
  put(own / "natural_science_verified.json", wise(700))
  assert len(folder.open_set(str(tmp_path), "wise_verified")) == 2
  # Of one part alone there are fewer rows, which the inventory tells.
  (own / "merge.json").unlink()
  assert len(folder.open_set(str(tmp_path), "wise_verified")) == 1
  (entry,) = folder.inventory(str(tmp_path), [("wise_verified", "")])
  assert entry.status == "incomplete" and "1 rows of 1,000" in entry.advice


@pytest.mark.parametrize("place", ["", "data", "WISE_legacy/data"])
def test_wise_legacy_and_its_rewritten_prompts(tmp_path, place):
  own = tmp_path / "wise_legacy"
  put(own / place / "spatio-temporal_reasoning.json", wise(530))
  put(own / place / "spatio-temporal_reasoning_rewrite.json", wise(530, "b"))
  (plain,) = folder.open_set(str(tmp_path), "wise_legacy").items
  (said,) = folder.open_set(str(tmp_path), "wise_legacy", "rewrite").items
  assert (plain.question, said.question) == ("a cake", "b")
  assert plain.meta["category"] == "TIME"  # otherwise than verified
  with pytest.raises(Missing):
    wise_rows.wise_verified(str(own), "")


@pytest.mark.parametrize(
  "script, message",
  [
    ("def (", "is no Python"),
    ("x = 1", "no text of a system and of a user"),
    (SCRIPT.replace("Explanation", "Answer"), "with the prompt and its expl"),
    (SCRIPT.replace("{prompt_data['Prompt']}", "{prompt}"), "no text of a sys"),
  ],
)
def test_scripts_that_are_none_of_wise(tmp_path, script, message):
  path = tmp_path / "vllm_eval.py"
  path.write_text(script)
  with pytest.raises(BadItem, match=message):
    wise_rows.judge_prompt(str(path))


def pictures(root: pathlib.Path, *names) -> None:
  for name in names:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_bytes(name.encode())


@pytest.mark.parametrize(
  "file, place",
  [
    ("datav2_total_w_subtask.json", "data"),  # the hub's, data.zip unpacked
    ("data/data_total.json", "data"),  # the repository's
    ("datav2_total_w_subtask.json", ""),
  ],
)
def test_rise(tmp_path, file, place):
  own = tmp_path / "rise"
  logical = RISE | {
    "index": "logical_reasoning_1",
    "category": "logical_reasoning",
    "image": "logical_reasoning_images/1.png",
    "reference": None,
    "reference_img": "logical_reasoning_images/1_ref.png",
    "consistency_free": False,
    "subtask": "Puzzle Solving",
    "reasoning_img": float("nan"),
  }
  put(own / file, RISE, logical)
  names = [RISE["image"], logical["image"], logical["reference_img"]]
  pictures(own / place, *names)
  first, second = folder.open_set(str(tmp_path), "rise").items
  assert first.id == "temporal_reasoning_1"
  assert first.question == "Draw it in a year."
  assert first.meta == {"category": "temporal_reasoning", "reference": "a tree"}
  assert [p.bytes() for p in first.pictures] == [names[0].encode()]
  assert [p.bytes() for p in second.pictures] == [n.encode() for n in names[1:]]
  assert second.meta == {
    "category": "logical_reasoning",
    "reference_img": names[2],
    "consistency_free": False,
    "subtask": "Puzzle Solving",
  }


def test_pictures_of_rise_that_are_not_there_or_elsewhere(tmp_path):
  own = tmp_path / "rise"
  put(own / "data_total.json", RISE)
  with pytest.raises(BadItem, match="Unpack data.zip beside the file"):
    extras.rise(str(own), "")
  outside = RISE | {"index": "x", "image": "../../secret.png"}
  put(own / "data_total.json", RISE, outside)
  pictures(own / "data", RISE["image"])
  _, found = extras.rise(str(own), "")
  with pytest.raises(BadItem, match="lies outside of"):
    found.pictures[0].bytes()


DAMAGED = [
  ("geneval2", GENEVAL2, {}, "line 2: the prompt 'two green pigs' is also"),
  ("geneval2", GENEVAL2, {"prompt": None}, "line 2: 'prompt' is None; a str"),
  ("geneval2", GENEVAL2, {"skills": ["count"]}, "2 questions of 1 skills"),
  ("geneval2", GENEVAL2, {"vqa_list": [["a"]] * 2}, "no .question, answer."),
  ("geneval2", GENEVAL2, {"vqa_list": [], "skills": []}, "0 questions of 0"),
  ("geneval2", GENEVAL2, {"skills": ["count", "colour"]}, "'colour'. are none"),
  ("longtext", LONGTEXT, {}, "line 2: the prompt_id 7 is also that of .*1"),
  ("longtext", LONGTEXT, {"text": "OPEN"}, "'text' is 'OPEN'; a list is"),
  ("longtext", LONGTEXT, {"text": [" "]}, "texts are needed"),
  ("longtext", LONGTEXT, {"prompt_id": "7"}, "line 2: 'prompt_id' is '7'; a i"),
  ("wise_legacy", wise(1), {}, "entry 2: the prompt_id 1 is also that"),
  ("wise_legacy", wise(1), {"Explanation": 3}, "entry 2: 'Explanation' is 3"),
  ("wise_legacy", wise(1), {"prompt_id": 1001}, "1001 is not in 1..1000"),
  ("rise", RISE, {}, "entry 2: the index 'temporal_reasoning_1' is also that"),
  ("rise", RISE, {"category": "social"}, "the category 'social' is none of"),
  ("rise", RISE, {"image": None}, "entry 2: 'image' is None; a str is needed"),
  ("rise", RISE, {"reference": None}, "none of reference, reference_txt"),
  ("rise", RISE, {"reference_img": 3}, "'reference_img' is 3; a str is needed"),
]  # fmt: skip
FILES = {
  "geneval2": "geneval2_data.jsonl",
  "longtext": "text_prompts.jsonl",
  "wise_legacy": "cultural_common_sense.json",
  "rise": "data_total.json",
}
# Makes a second row another than the first, so that one thing alone is wrong.
OTHER = {
  "geneval2": {"prompt": "x"},
  "longtext": {"prompt_id": 8},
  "wise_legacy": {"prompt_id": 2},
  "rise": {"index": "y"},
}


@pytest.mark.parametrize("name, row, change, message", DAMAGED)
def test_damaged_rows_are_told_with_file_and_place(
  tmp_path, name, row, change, message
):
  second = row | (OTHER[name] if change else {}) | change
  path = put(tmp_path / name / FILES[name], row, second)
  pictures(tmp_path / "rise" / "data", RISE["image"])
  with pytest.raises(BadItem, match=message) as caught:
    folder.open_set(str(tmp_path), name)
  assert str(path) in str(caught.value)


def test_rows_and_licences_are_those_of_the_sets():
  rows = {
    name: (sets.SETS[name].splits[sets.SETS[name].default].rows, licence)
    for name, licence in (
      (name, sets.SETS[name].licence)
      for name in (*extras.EXTRA_SETS, *wise_rows.WISE_SETS)
    )
  }
  assert rows == {
    "geneval2": (800, "CC BY-NC 4.0"),
    "longtext": (160, "Apache-2.0"),
    "rise": (360, "not stated"),
    "wise_verified": (1000, "not stated"),
    "wise_legacy": (1000, "not stated"),
  }
