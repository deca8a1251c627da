"""The paper's tables: 11 understanding sets, GenEval twice, DPG-Bench, GEdit.

  emma-benchmark run --config benchmarks/paper --checkpoint runs/x \\
      --data DIR --out results/x

The paper (arXiv 2512.04810, tables 3 to 6) prints values. It does not say which
split of DocVQA, InfoVQA and MMBench was used, which toolkit scored, which model
judged MM-Vet, MathVista and GEdit-Bench, whether answers were matched by rules
or by a judge, how many steps and what guidance its pictures were drawn with.
What stands here is what peers use: validation splits, VLMEvalKit's prompts and
rules, GPT-4.1 for GEdit-Bench. `judge` names sections of `judges`, whose
addresses, models and prices are yours: all are servers at localhost until then.
"""

import ml_collections

from configs.benchmarks import defaults, judges


def understanding(c: ml_collections.ConfigDict) -> None:
  """Adds the 11 sets that are answered in text."""
  for name in ("chartqa", "docvqa", "textvqa", "infovqa", "ocrbench"):
    c.sets[name] = defaults.a_set()
  for name in ("mmbench", "mmmu", "ai2d", "mmstar"):
    c.sets[name] = defaults.a_set(judge="matching")
  c.sets.mathvista = defaults.a_set(judge="matching")
  c.sets.mmvet = defaults.a_set(judge="rating")


def drawing(c: ml_collections.ConfigDict) -> None:
  """Adds GenEval with both prompt sets, and DPG-Bench."""
  c.sets.geneval = defaults.a_set(judge="detector")
  c.sets["geneval:long"] = defaults.a_set(split="long", judge="detector")
  c.sets.dpg = defaults.a_set(judge="vqa")


def get_config() -> ml_collections.ConfigDict:
  """Everything the paper prints."""
  c = defaults.base()
  c.name = "paper"
  understanding(c)
  drawing(c)
  c.sets.gedit = defaults.a_set(split="en", judge="editing")
  c.judges.matching = judges.openai()
  c.judges.rating = judges.openai()
  c.judges.editing = judges.openai()
  c.judges.detector = judges.detector()
  c.judges.vqa = judges.openai(max_tokens=16)
  return c
