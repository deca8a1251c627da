"""Newer sets beside the sixteen: GenEval 2, WISE, LongText-Bench, RISEBench."""

import ml_collections

from configs.benchmarks import defaults, judges


def get_config() -> ml_collections.ConfigDict:
  """The four; WISE as verified, the older one beside it but not enabled."""
  c = defaults.base()
  c.name = "extras"
  c.sets.geneval2 = defaults.a_set(judge="vqa")
  c.sets.wise_verified = defaults.a_set(judge="rating")
  c.sets.wise_legacy = defaults.a_set(judge="rating", enabled=False)
  c.sets.longtext = defaults.a_set(judge="reader")
  c.sets["longtext:zh"] = defaults.a_set(split="zh", judge="reader")
  c.sets.rise = defaults.a_set(judge="rating")
  # GenEval 2 weighs the answer's first token by its probability.
  c.judges.vqa = judges.openai(max_tokens=1, top_logprobs=20)
  c.judges.rating = judges.openai()
  c.judges.reader = judges.reader()
  return c
