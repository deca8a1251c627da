"""How questions of choice are asked, to the space."""

import pytest

from emma_jax.benchmarks.scoring import choice_prompts

SCORERS = choice_prompts.SCORERS
DIRECT = choice_prompts.DIRECT


@pytest.mark.smoke
def test_vlmevalkit():
  prompt = SCORERS["MMBench", "prompt", "vlmevalkit"]
  line = {"question": "q", "hint": "h", "A": "x", "B": 2, "C": "NaN", "D": None}
  assert prompt(line=line) == (
    "Hint: h\nQuestion: q\nOptions:\nA. x\nB. 2\n"
    "Please select the correct answer from the options above. \n"
  )
  assert prompt(line={"question": "q", "hint": "NaN"}) == "Question: q\n"


def test_mmbench_in_lmms_eval():
  prompt = SCORERS["MMBench", "prompt", "lmms_eval"]
  doc = {"question": "q", "hint": "h", "A": "x", "B": "y", "C": "nan", "D": ""}
  assert prompt(doc=doc) == (
    f"h q There are several options:\nA. x\nB. y\n{DIRECT}"
  )
  assert prompt(doc=doc | {"hint": "nan"}, post_prompt=None) == (
    "q There are several options:\nA. x\nB. y"
  )


def test_ai2d_in_lmms_eval():
  prompt = SCORERS["AI2D", "prompt", "lmms_eval"]
  assert prompt(question="q", options=["x", "y"]) == (
    f"q\nA. x\nB. y\n{DIRECT}"
  )
  assert prompt("q", ["x", "y"], "<", ">", "qa") == "<qx\ny>"
  assert prompt("q", ["x", "y"], "<", ">", "mcq_xcomposer") == (
    "<q\nContext: N/A\nA. x B. y>"
  )
  with pytest.raises(ValueError, match="poem"):
    prompt("q", [], prompt_format="poem")


def test_mmstar_in_lmms_eval():
  prompt = SCORERS["MMStar", "prompt", "lmms_eval"]
  asked = " q? Please answer yes or no. "
  assert prompt(question=asked, kwargs={"post_prompt": "\n!"}) == "q?\n!"
  assert prompt(question=asked, kwargs={"pre_prompt": "<"}) == "<q?"
  assert prompt(question=asked, kwargs={"pre_prompt": ""}) == asked.strip()
