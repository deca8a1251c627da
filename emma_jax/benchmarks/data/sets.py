"""What each test set is: its rows, where it comes from, and how it is named.

Row counts and names are those of the sets' cards and of VLMEvalKit (md5 sums of
its files, as far as they are known by their beginning).
"""

from collections.abc import Mapping
import dataclasses


@dataclasses.dataclass(frozen=True, kw_only=True)
class Split:
  """One split of a set, in the files people have of it.

  Args:
    rows: of the whole split; 0: not known here.
    tsv: VLMEvalKit's file name, without .tsv -> the md5 sums it has had, newest
      first, by their beginning; () where none is known.
    config, split: of the Hugging Face data set, "" where it has none.
    hub: whether that data set has this split at all.
  """

  rows: int
  tsv: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
  config: str = ""
  split: str = ""
  hub: bool = True


@dataclasses.dataclass(frozen=True, kw_only=True)
class TestSet:
  """A published test set.

  Args:
    name: as configs and folders name it.
    title: as papers do.
    splits: by name, the default first.
    hub: ids on the Hugging Face hub, today's first.
    licence: of its data; "not stated" where none is.
    files: of its repository that hold it, of the sets that are no table.
  """

  name: str
  title: str
  splits: Mapping[str, Split]
  hub: tuple[str, ...] = ()
  licence: str
  files: tuple[str, ...] = ()

  @property
  def default(self) -> str:
    """The split that is meant where none is named."""
    return next(iter(self.splits))


def _hub(name: str, *others: str) -> tuple[str, ...]:
  """lmms-eval's copies moved in July 2026."""
  return (f"lmms-lab-encoder/{name}", f"lmms-lab/{name}", *others)


_MMBENCH = "MMBench_{split}_{language}{version}"


def _mmbench() -> dict[str, Split]:
  """Version 1.1 first: it is what newer papers print."""
  known = {
    ("DEV", "EN", "_V11"): ("30c05be8",),
    ("DEV", "EN", ""): ("b6caf113",),
    ("TEST", "EN", "_V11"): ("8d1a704e", "26f0f153"),
    ("TEST", "CN", "_V11"): ("156e6569", "74bbe455"),
  }
  rows = {
    ("DEV", ""): 4329,
    ("TEST", ""): 6666,
    ("DEV", "_V11"): 0,
    ("TEST", "_V11"): 0,
  }
  out = {}
  for split in ("DEV", "TEST"):
    for language in ("EN", "CN"):
      for version in ("_V11", ""):
        name = f"{split}_{language}{version}".lower()
        tsv = _MMBENCH.format(split=split, language=language, version=version)
        hub = {"DEV": "dev", "TEST": "test"}[split] if not version else ""
        out[name] = Split(
          rows=rows[split, version],
          tsv={tsv: known.get((split, language, version), ())},
          config=language.lower() if hub else "",
          split=hub,
          hub=bool(hub),
        )
  return out


def _one(name: str, rows: int, tsv: str, md5: str, **more) -> dict[str, Split]:
  return {name: Split(rows=rows, tsv={tsv: (md5,)}, **more)}


SETS = {
  s.name: s
  for s in (
    TestSet(
      name="chartqa",
      title="ChartQA",
      splits=_one("test", 2500, "ChartQA_TEST", "c902e0aa", split="test"),
      hub=_hub("ChartQA"),
      licence="GPL-3.0",
    ),
    TestSet(
      name="docvqa",
      title="DocVQA",
      splits={
        "val": Split(
          rows=5349,
          tsv={"DocVQA_VAL": ("d5ee77e1",)},
          config="DocVQA",
          split="validation",
        ),
        "test": Split(
          rows=5188, tsv={"DocVQA_TEST": ()}, config="DocVQA", split="test"
        ),
      },
      hub=_hub("DocVQA"),
      licence="terms of the Robust Reading Competition",
    ),
    TestSet(
      name="infovqa",
      title="InfoVQA",
      splits={
        "val": Split(
          rows=2801,
          tsv={"InfoVQA_VAL": ("2342e9c2",)},
          config="InfographicVQA",
          split="validation",
        ),
        "test": Split(
          rows=3288,
          tsv={"InfoVQA_TEST": ()},
          config="InfographicVQA",
          split="test",
        ),
      },
      hub=_hub("DocVQA"),
      licence="terms of the Robust Reading Competition",
    ),
    TestSet(
      name="textvqa",
      title="TextVQA",
      splits=_one("val", 5000, "TextVQA_VAL", "b233b31f", split="validation"),
      hub=_hub("textvqa"),
      licence="CC BY 4.0",
    ),
    TestSet(
      name="ocrbench",
      title="OCRBench",
      splits=_one("test", 1000, "OCRBench", "e953d98a", split="test"),
      hub=("echo840/OCRBench",),
      licence="MIT; questions of many sets with terms of their own",
    ),
    TestSet(
      name="mmbench",
      title="MMBench",
      splits=_mmbench(),
      hub=_hub("MMBench"),
      licence="Apache-2.0",
    ),
    TestSet(
      name="mmmu",
      title="MMMU",
      splits={
        "val": Split(
          rows=900, tsv={"MMMU_DEV_VAL": ("585e8ad7",)}, split="validation"
        ),
        "dev": Split(
          rows=150, tsv={"MMMU_DEV_VAL": ("585e8ad7",)}, split="dev"
        ),
      },
      hub=_hub("MMMU", "MMMU/MMMU"),
      licence="Apache-2.0",
    ),
    TestSet(
      name="mathvista",
      title="MathVista",
      splits=_one(
        "testmini", 1000, "MathVista_MINI", "f199b98e", split="testmini"
      ),
      hub=("AI4Math/MathVista",),
      licence="CC BY-SA 4.0",
    ),
    TestSet(
      name="ai2d",
      title="AI2D",
      splits={
        "test": Split(
          rows=3088, tsv={"AI2D_TEST": ("0f593e0d",)}, split="test"
        ),
        "test_no_mask": Split(
          rows=3088, tsv={"AI2D_TEST_NO_MASK": ()}, hub=False
        ),
      },
      hub=_hub("ai2d"),
      licence="CC BY-SA 4.0",
    ),
    TestSet(
      name="mmstar",
      title="MMStar",
      splits=_one("val", 1500, "MMStar", "e1ecd214", split="val"),
      hub=("Lin-Chen/MMStar",),
      licence="not stated",
    ),
    TestSet(
      name="mmvet",
      title="MM-Vet",
      splits=_one("test", 218, "MMVet", "748aa6d4", split="test"),
      hub=_hub("MMVet"),
      licence="Apache-2.0",
    ),
    TestSet(
      name="geneval",
      title="GenEval",
      splits={"test": Split(rows=553), "long": Split(rows=553)},
      licence="MIT",
      files=("evaluation_metadata.jsonl", "evaluation_metadata_long*.jsonl"),
    ),
    TestSet(
      name="dpg",
      title="DPG-Bench",
      splits={"test": Split(rows=1065)},
      licence="Apache-2.0",
      files=("prompts.jsonl", "prompts/*.txt", "dpg_bench.csv"),
    ),
    TestSet(
      name="gedit",
      title="GEdit-Bench",
      splits={"en": Split(rows=606), "cn": Split(rows=606)},
      hub=("stepfun-ai/GEdit-Bench",),
      licence="MIT",
    ),
    TestSet(
      name="imgedit",
      title="ImgEdit-Bench",
      splits={"basic": Split(rows=737)},
      licence="not stated",
      files=("basic_edit.json, with the pictures of sysuyy/ImgEdit beside it",),
    ),
    TestSet(
      name="emu_edit",
      title="Emu Edit",
      splits={
        "test": Split(rows=3589, split="test"),
        "val": Split(rows=2022, split="validation"),
      },
      hub=("facebook/emu_edit_test_set",),
      licence="CC BY-NC 4.0",
    ),
    TestSet(
      name="geneval2",
      title="GenEval 2",
      splits={"test": Split(rows=800)},
      licence="CC BY-NC 4.0",
      files=("geneval2_data.jsonl",),
    ),
    TestSet(
      name="wise_verified",
      title="WISE_Verified",
      splits={"test": Split(rows=1000)},
      licence="not stated",
      files=(
        "data_verified/merge.json",
        "data_verified/*_verified.json, with vllm_eval.py beside that folder",
      ),
    ),
    TestSet(
      name="wise_legacy",
      title="WISE",
      splits={"test": Split(rows=1000), "rewrite": Split(rows=1000)},
      licence="not stated",
      files=("WISE_legacy/data/*.json, with gpt_eval.py beside that folder",),
    ),
    TestSet(
      name="longtext",
      title="LongText-Bench",
      splits={"en": Split(rows=160), "zh": Split(rows=160)},
      licence="Apache-2.0",
      files=("textbench/text_prompts.jsonl, text_prompts_zh.jsonl",),
    ),
    TestSet(
      name="rise",
      title="RISEBench",
      splits={"test": Split(rows=360)},
      hub=("PhoenixZ/RISEBench",),
      licence="not stated",
      files=("datav2_total_w_subtask.json, with data.zip unpacked beside it",),
    ),
  )
}


def find(name: str, split: str = "") -> tuple[TestSet, str]:
  """(the set, the split, its default where none is named).

  Raises:
    ValueError: there is none of that name.
  """
  if name not in SETS:
    raise ValueError(f"No test set {name!r}; there are {', '.join(SETS)}.")
  found = SETS[name]
  split = split or found.default
  if split not in found.splits:
    raise ValueError(
      f"{found.title} has no split {split!r}; it has {', '.join(found.splits)}."
    )
  return found, split
