"""All sixteen sets: the paper's, and GEdit-Bench CN, ImgEdit and Emu Edit."""

import ml_collections

from configs.benchmarks import defaults, judges, paper


def get_config() -> ml_collections.ConfigDict:
  """`paper`, and what it leaves out of the sixteen."""
  c = paper.get_config()
  c.name = "full"
  c.sets["gedit:cn"] = defaults.a_set(split="cn", judge="editing")
  c.sets.imgedit = defaults.a_set(judge="editing")
  c.sets.emu_edit = defaults.a_set(judge="encoder")
  c.judges.encoder = judges.encoder()
  return c
