"""Sets of a few items, and a model that is small enough to predict them."""

from collections.abc import Callable, Sequence
import dataclasses
import functools
import io
import random
from typing import Any

import numpy as np
from PIL import Image

from emma_jax.benchmarks import suite
from emma_jax.benchmarks.data.folder import Source
from emma_jax.benchmarks.items import Item, Picture
from emma_jax.benchmarks.settings import SetSettings
from emma_jax.benchmarks.suite import Benchmark, Request, Score

_WORDS = "red blue green circle square left of the a in what is how".split()


def png(seed: int, height: int = 64, width: int = 64) -> bytes:
  rng = np.random.default_rng(seed)
  out = io.BytesIO()
  pixels = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
  Image.fromarray(pixels).save(out, "PNG")
  return out.getvalue()


def item(n: int, **changes: Any) -> Item:
  """Questions of 1 to 40 words, some of two on one picture."""
  words = random.Random(n).choices(_WORDS, k=1 + 13 * (n % 4))
  picture = Picture(f"row {n}", functools.partial(png, n // 2))
  given = dict(
    id=f"n/{n}",
    group=f"picture {n // 2}",
    question=" ".join(words),
    pictures=(picture,),
    answers=("red",),
  )
  return Item(**(given | changes))


def same(case: suite.Case) -> Sequence[Score]:
  """1 for the answer, or for a picture that a judge likes."""
  if not case.item.answers:
    raise suite.NoAnswers("no answers in this split")
  return [
    Score(value=float(m.text.strip().lower() in case.item.answers))
    for m in case.made
  ]


def judged(case: suite.Case) -> Sequence[Score]:
  """What the judge says of each."""
  out = []
  for made in case.made:
    pictures = [made.picture()] if made.prediction.picture else []
    reply = case.ask("rate", made.text, pictures, repeat=made.repeat)
    if not reply.text.isdigit():
      raise suite.NoReply("unparsable", reply.text)
    out.append(Score(value=int(reply.text) / 10, parts={"raw": 1.0}))
  return out


def benchmark(task: suite.Task = "ask", **changes: Any) -> Benchmark:
  """One of a task, not among the published ones."""

  def request(one: Item) -> Request:
    pictures = () if task == "draw" else one.pictures
    return Request(text=one.question, pictures=pictures)

  given: dict[str, Any] = dict(
    name="toy",
    kind="understanding" if task == "ask" else "drawing",
    task=task,
    impls=("exact",),
    prompts={"plain": request},
    max_tokens=6,
    repeats=1 if task == "ask" else 2,
    score=same,
  )
  return Benchmark(**(given | changes))


def settings(of: Benchmark, **changes: Any) -> SetSettings:
  given = dict(
    name="toy",
    title="Toy",
    benchmark=of,
    split="test",
    impl=of.impls[0],
    prompt="plain",
    max_tokens=of.max_tokens,
    temperature=0.0,
    repeats=of.repeats,
    size=None,
    steps=2,
    shift=None,
    text_guidance=None,
    image_guidance=None,
    seed=0,
    judge="",
    guess=False,
    quirks=False,
    limit=0,
    data="",
  )
  return SetSettings(**(given | changes))


def source(items: Sequence[Item], order: Callable = lambda x: x) -> Source:
  return Source(
    name="toy", split="test", format="lines", files=(), items=list(order(items))
  )


@functools.cache
def model() -> Any:
  """The smallest EMMA, four rows a program."""
  from emma_jax.benchmarks.model import Model
  from tests.sampling import small

  session = small.session()
  runner = dataclasses.replace(session.runner, fill=True)
  return Model.of(dataclasses.replace(session, runner=runner))
