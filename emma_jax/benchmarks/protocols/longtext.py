"""LongText-Bench: a reader reads the pictures, words are counted.

A picture's score is the share of its words that were read, and weighs as many
words as were asked for: the weighted mean is all that was read over all that
was asked for. Source: X-Omni-Team/X-Omni (Apache-2.0),
textbench/evaluate_text_reward.py and summary_scores.py.
"""

from emma_jax.benchmarks import suite
from emma_jax.benchmarks.items import BadItem, Item
from emma_jax.benchmarks.protocols import drawing
from emma_jax.benchmarks.scoring import longtext
from emma_jax.benchmarks.suite import Case, Made, Score

PICTURES = 4
MAX_TOKENS = 1024


def words(item: Item) -> int:
  """Words that a prompt asks for; of Chinese, characters.

  Raises:
    BadItem: it asks for none, or in a language that is not scored.
  """
  language = drawing.needed(item, "language")
  if language not in ("en", "zh"):
    raise BadItem(f"The item {item.id!r} is of {language=}; en or zh is.")
  _, asked = longtext.matched(drawing.needed(item, "text"), "", language)
  if not asked:
    raise BadItem(f"The item {item.id!r} asks for no word.")
  return asked


def score_picture(case: Case, made: Made) -> Score:
  """The share of words that were read, 0..1."""
  reply = case.ask(
    "read",
    longtext.READ_PROMPT,
    [made.picture()],
    repeat=made.prediction.repeat,
    max_tokens=MAX_TOKENS,
  )
  text = longtext.clean(reply.text, official_quirks=case.quirks)
  meta = case.item.meta
  read, asked = longtext.matched(meta["text"], text, meta["language"])
  return Score(value=read / asked, weight=asked)


BENCHMARKS: tuple[suite.Benchmark, ...] = (
  suite.Benchmark(
    name="longtext",
    kind="drawing",
    task="draw",
    impls=("original",),
    prompts={"plain": drawing.plain},
    repeats=PICTURES,
    score=lambda case: suite.each(case, score_picture, weight=words(case.item)),
    weight=words,
    scale=1.0,
    unit="",
    categories=lambda item: {
      name: str(item.meta[name])
      for name in ("category", "length")
      if name in item.meta
    },
    judge="reader",
    protocol=(
      "Published numbers are of four pictures a prompt, read by "
      "Qwen2.5-VL-7B-Instruct in bfloat16 with the sampling of its own "
      "generation config, at most 1,024 tokens; English and Chinese are two "
      "numbers. How pictures were drawn is each paper's own."
    ),
  ),
)
