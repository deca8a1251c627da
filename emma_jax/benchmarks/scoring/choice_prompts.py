"""How questions of choice are asked: MMBench, AI2D, MMStar.

vlmevalkit  vlmeval/dataset/image_mcq.py, `ImageMCQDataset.build_prompt`
lmms_eval   0.7.3, tasks/{mmbench/en_utils,ai2d/utils,mmstar/utils}.py
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from emma_jax.benchmarks.scoring.choice_judge import options_of
from emma_jax.benchmarks.scoring.missing import is_missing

DIRECT = "Answer with the option's letter from the given choices directly."
_YES_OR_NO = " Please answer yes or no."


def vlmevalkit(line: Mapping[str, Any]) -> str:
  """The text beside the picture; the space before the last newline is theirs.

  Args:
    line: "question", optionally "hint" and options by letter.
  """
  out = f"Question: {line['question']}\n"
  if not is_missing(line.get("hint")):
    out = f"Hint: {line['hint']}\n{out}"
  options = options_of(line)
  if options:
    listed = "".join(f"{key}. {text}\n" for key, text in options.items())
    out += f"Options:\n{listed}"
    out += "Please select the correct answer from the options above. \n"
  return out


def mmbench_lmms(
  doc: Mapping[str, Any],
  post_prompt: str | None = DIRECT,
  system_prompt: str = "There are several options:",
) -> str:
  """MMBench's text in lmms-eval, whose data say "nan" for what is missing.

  Args:
    doc: "hint", "question", options A to E.
    post_prompt: the last line; None for none.
    system_prompt: before the options.
  """
  options = [
    f"{letter}. {doc[letter]}"
    for letter in "ABCDE"
    if doc.get(letter) and not _is_nan(doc[letter])
  ]
  listed = "\n".join([system_prompt, *options]).rstrip("\n")
  hint = "" if _is_nan(doc["hint"]) else f"{doc['hint']} "
  out = f"{hint}{doc['question']} {listed}"
  return out if post_prompt is None else f"{out}\n{post_prompt}"


def _is_nan(value: Any) -> bool:
  return is_missing(value) or value == "nan"


def ai2d_lmms(
  question: str,
  options: Sequence[str],
  pre_prompt: str = "",
  post_prompt: str = f"\n{DIRECT}",
  prompt_format: str = "mcq",
) -> str:
  """AI2D's text in lmms-eval.

  Args:
    question: of the item.
    options: their texts.
    pre_prompt: before the question.
    post_prompt: after the options, with its newline.
    prompt_format: "mcq" (letters), "qa" (no letters), "mcq_xcomposer".

  Raises:
    ValueError: another format.
  """
  named = [f"{chr(ord('A') + i)}. {text}" for i, text in enumerate(options)]
  if prompt_format == "mcq":
    listed = "\n" + "\n".join(named)
  elif prompt_format == "qa":
    listed = "\n".join(options)
  elif prompt_format == "mcq_xcomposer":
    listed = "\nContext: N/A\n" + " ".join(named)
  else:
    raise ValueError(f"Unknown prompt format: {prompt_format}")
  return f"{pre_prompt}{question}{listed}{post_prompt}"


def mmstar_lmms(question: str, kwargs: Mapping[str, str]) -> str:
  """MMStar's text in lmms-eval; the options are part of the question.

  Args:
    question: of the item.
    kwargs: the task's `pre_prompt` and `post_prompt`. With either, " Please
      answer yes or no." is taken out of the question.
  """
  text = question.strip()
  before, after = kwargs.get("pre_prompt", ""), kwargs.get("post_prompt", "")
  if before:
    text = before + text.replace(_YES_OR_NO, "")
  if after:
    text = text.replace(_YES_OR_NO, "") + after
  return text


SCORERS: Mapping[tuple[str, str, str], Callable[..., Any]] = {
  ("MMBench", "prompt", "vlmevalkit"): vlmevalkit,
  ("MMBench", "prompt", "lmms_eval"): mmbench_lmms,
  ("AI2D", "prompt", "vlmevalkit"): vlmevalkit,
  ("AI2D", "prompt", "lmms_eval"): ai2d_lmms,
  ("MMStar", "prompt", "vlmevalkit"): vlmevalkit,
  ("MMStar", "prompt", "lmms_eval"): mmstar_lmms,
}
