"""What the shipped model answers, draws and edits, in few steps.

Pictures are rendered by the embedded world, drawings and edits take three
steps, and guidance is strong, so that each of its contexts shows.
"""

from collections.abc import Iterator
import contextlib
import functools
from unittest import mock

import jax
import numpy as np

from emma_jax.build import session as build_session
from emma_jax.models.emma import to_unit
from emma_jax.sampling import context, image, text
from emma_jax.sampling.session import Session
from tests import tiny

KEPT = 48
STEPS = 3
PROMPTS = ("a red circle", "two blue squares")
QUESTIONS = ("what is it?", "how many?")


@contextlib.contextmanager
def quick() -> Iterator[None]:
  """The session's programs, compiled without optimisations."""
  static = {
    context: dict(prefill=("emma", "route")),
    image: dict(sample_latents=("emma", "grid"), decode=("emma", "grid")),
    text: dict(
      start=("emma", "route", "room"), say=("emma",), answer=("emma", "room")
    ),
  }
  with contextlib.ExitStack() as stack:
    for module, functions in static.items():
      for name, names in functions.items():
        plain = getattr(module, name).__wrapped__
        stack.enter_context(
          mock.patch.object(
            module,
            name,
            jax.jit(plain, static_argnames=names, compiler_options=tiny.QUICK),
          )
        )
    yield


@functools.cache
def session() -> Session:
  return build_session.load("reference")


@functools.cache
def pictures() -> tuple[np.ndarray, np.ndarray]:
  """A red disc and two blue bars, on grey, drawn by hand."""
  y, x = np.mgrid[:96, :96]
  out = np.full((2, 96, 96, 3), 128, np.uint8)
  out[0, (y - 30) ** 2 + (x - 60) ** 2 < 400] = 220, 30, 30
  out[1, 20:40, 10:30] = out[1, 50:70, 60:80] = 30, 30, 220
  return tuple(out)


def _levels(made: list[np.ndarray]) -> dict:
  """Floats, so that a pixel may round to its neighbour."""
  return {str(i): x.astype(np.float32) for i, x in enumerate(made)}


def answers() -> dict:
  """Texts, and what the router makes of the pictures."""
  s = session()
  said = s.ask(
    [[p] for p in pictures()], [[q] for q in QUESTIONS], max_tokens=6
  )
  choose = lambda p, x: s.emma.apply(
    {"params": p},
    to_unit(x, "float32"),
    method=lambda emma, x: emma.vision.router_logits(x),
  )
  logits = jax.jit(choose, compiler_options=tiny.QUICK)(
    s.params, np.stack(pictures())
  )
  return {"said": said, "router": logits}


def drawings() -> dict:
  made = session().draw(PROMPTS, steps=STEPS, guidance=3.0)
  return _levels(made)


def edits() -> dict:
  made = session().edit(
    pictures(),
    ("make it green", "make them yellow"),
    steps=STEPS,
    text_guidance=4.0,
    image_guidance=2.0,
    seed=1,
  )
  return _levels(made)


CASES = {"answers": answers, "drawings": drawings, "edits": edits}


def cases():
  with quick():
    return {name: case() for name, case in CASES.items()}
