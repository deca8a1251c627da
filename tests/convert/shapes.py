"""The shapes of all shipped configs, small: exported, loaded and run in torch.

What is asked, drawn and edited is compared with sampling here. Prints a table:

  python -m tests.convert.shapes
  EMMA_QWEN3_FILES=files python -m tests.convert.shapes  # Qwen3's vocabulary

Widths and depths are a few, pictures a few tokens; what a config chooses is
kept: tokenizer and size of its vocabulary, tied embeddings, how many heads
share keys and values, shared parts, experts, fusion, kinds of the autoencoder's
blocks, buckets, native sizes, fitting.
"""

from collections.abc import Iterator
import dataclasses
import functools
import os
from pathlib import Path
import sys
import tempfile
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from configs import full_size, variants
from emma_jax.build import config_file, exchange, sections
from emma_jax.build import model as build_model
from emma_jax.build import session as build_session
from emma_jax.sampling import image
from tests import tiny
from tests.data import qwen
from tests.goldens import emma_torch as golden

_STAGES = ("", *full_size._STAGES, "stage2,fixed")
CONFIGS = (
  *(
    f"{s}:{w}".rstrip(":")
    for s in ("emma_4b", "emma_1_7b", "emma_0_6b")
    for w in _STAGES
  ),
  *(f"tiny:{v}".rstrip(":") for v in ("", *variants.VARIANTS)),
  *("tiny:shapes", "tiny:sources", "reference", "files", "files_records"),
  "files_from_reference",
  "smoke",
  "tiny native",
)
# Of each shape one, so that comparisons need not be repeated; see `groups`.
SHAPES = (
  *("emma_4b", "emma_4b:stage0", "emma_4b:stage2", "emma_4b:stage4a"),
  *("emma_4b:stage2,fixed", "emma_1_7b", "emma_1_7b:stage0"),
  *("emma_1_7b:stage2", "emma_1_7b:stage4a", "emma_1_7b:stage2,fixed"),
  *(f"tiny:{v}".rstrip(":") for v in ("", *variants.VARIANTS)),
  *("tiny:shapes", "files_records", "smoke", "tiny native"),
)
# Typed, these are text like any other.
SPECIALS = "<think> </tool_call> <|fim_prefix|> <|im_end|> <|vision_start|>"
QUESTIONS = [
  f"<image>\nred or <image>: {SPECIALS}?",
  "why? naïve 表情 🙂 <|image_pad|>",
]
STEPS, TOKENS, SEED = 3, 6, 5


@dataclasses.dataclass(frozen=True)
class Row:
  """What torch computed beside what is computed here."""

  config: str
  answers: int  # compared
  equal: int
  drawing: int  # largest difference in levels of 255
  edit: int


def load(name: str) -> dict:
  """A shipped config, small. "tiny native": the sampler's own choice."""
  given, _, own = name.partition(" ")
  c = sections.plain(config_file.load(given))
  if own:
    c["data"] |= {"native": True, "max_tokens": 12}
  _shrink_model(c["model"])
  _shrink_pictures(c["data"])
  return c


def _shrink_model(m: dict) -> None:
  m["dtype"] = "float32"  # of both sides, so that results can be compared
  llm, encoder, dcae = m["llm"], m["vision"]["encoder"], m["autoencoder"]
  share = llm["num_heads"] // llm["num_kv_heads"]
  deep = llm["num_shallow"] < llm["num_layers"]
  llm |= dict(
    width=32,
    mlp_width=48,
    num_layers=3,
    num_shallow=2 if deep else 3,
    num_heads=share if share > 1 else 2,
    num_kv_heads=1 if share > 1 else 2,
    head_dim=16,
  )
  encoder |= dict(
    width=16, mlp_width=24, num_layers=2, num_heads=2, native_grid=4
  )
  m["vision"] |= dict(num_expert_layers=1, router_width=8)
  m["fusion"]["time_channels"] = 16
  small = lambda layers: [min(n, 1) for n in layers]
  dcae |= dict(latent_channels=8, attention_head_dim=8)
  for side in ("encoder", "decoder"):
    dcae |= {
      f"{side}_block_out_channels": [8] * 6,
      f"{side}_layers_per_block": small(dcae[f"{side}_layers_per_block"]),
    }


def _shrink_pictures(data: dict) -> None:
  """1024 pixels to 128, 512 to 128; the world's stay as they are."""
  factor = 8 if data["height"] >= 1024 else 4 if data["height"] >= 512 else 1
  side = lambda n: max(1, round(n / factor / 32)) * 32
  data |= dict(height=side(data["height"]), width=side(data["width"]))
  sizes = [(side(y), side(x)) for y, x in data["buckets"]]
  data["buckets"] = list(dict.fromkeys(sizes))
  for key in ("min_tokens", "max_tokens"):
    data[key] = max(1, data[key] // factor**2)
  if data["tokenizer"] != "tiny":
    data["tokenizer"] = f"qwen3:{vocabulary()}"


@functools.cache
def vocabulary() -> Path:
  """Qwen3's own, where it is; else one as large, of made-up tokens."""
  if os.environ.get("EMMA_QWEN3_FILES"):
    return qwen.published("tokenizer.json")
  return qwen.write(Path(_folder().name), "qwen.tiktoken", qwen.full_size())


@functools.cache
def _folder() -> tempfile.TemporaryDirectory:
  """Of this process, gone at its end."""
  return tempfile.TemporaryDirectory(prefix="emma_vocabulary")


def shape_of(c: dict) -> str:
  """What decides an export's results; equal ones need one comparison."""
  framing = build_session.framing(c)
  return repr((c["model"], c["data"]["tokenizer"], framing, c["sample"]))


def groups() -> dict[str, list[str]]:
  """Name of a config -> it and the others of its shape."""
  out: dict[str, list[str]] = {}
  for name in CONFIGS:
    out.setdefault(shape_of(load(name)), []).append(name)
  return {names[0]: names for names in out.values()}


# ------------------------------------------------------------ both sides


def compare(name: str, out: Path) -> Row:
  """Exports a config's shape into `out`, and runs both."""
  config = load(name)
  params = tiny.filled(build_model.model(config["model"]).shapes)
  source = build_session.Source(
    config=config, params=params, name=name, step=7, route="versatile"
  )
  exchange.export(source, "emma", out, expert="versatile")
  theirs = golden.load(out)
  ours = build_session.session(config, params, name, 7)
  with jax.default_matmul_precision("highest"):
    said = list(_answers(ours, theirs))
    return Row(
      name,
      answers=len(said),
      equal=sum(said),
      drawing=_drawing(ours, theirs),
      edit=_edit(ours, theirs),
    )


def picture(seed: int, height: int = 50, width: int = 60) -> np.ndarray:
  rng = np.random.default_rng(seed)
  return rng.integers(0, 256, (height, width, 3), dtype=np.uint8)


def _answers(ours: Any, theirs: Any) -> Iterator[bool]:
  """Whether each of a conversation about two pictures at their marks is."""
  shown = [picture(1), picture(2, 40, 90)]
  (want,) = ours.ask([shown], [QUESTIONS], max_tokens=TOKENS)
  made = theirs.ask(shown, QUESTIONS, max_tokens=TOKENS)
  assert len(made) == len(want) == len(QUESTIONS)
  yield from (a == b for a, b in zip(made, want))


def _drawing(ours: Any, theirs: Any) -> int:
  """In a size that is no trained one."""
  prompt, size = f"a red star {SPECIALS}", (40, 50)
  noise, (want,) = _with_noise(ours.draw, [prompt], size=size, **_options())
  made = theirs.draw(prompt, size=size, noise=noise, steps=STEPS)
  return _levels(theirs, made, want)


def _edit(ours: Any, theirs: Any) -> int:
  """Of two pictures of different shapes."""
  shown, text = [picture(5), picture(6, 90, 70)], "make it blue <think>"
  noise, (want,) = _with_noise(ours.edit, [shown], [text], **_options())
  made = theirs.edit(shown, text, noise=noise, steps=STEPS)
  return _levels(theirs, made, want)


def _options() -> dict[str, int]:
  return dict(steps=STEPS, seed=SEED)


def _levels(theirs: Any, made: Any, want: np.ndarray) -> int:
  found = np.asarray(theirs.to_image(made), np.int32)
  assert found.shape == want.shape, (found.shape, want.shape)
  return int(np.abs(found - want).max())


def _with_noise(call: Any, *args: Any, **options: Any) -> tuple[Any, Any]:
  """(noise of the first picture, result) of a call that samples once."""
  seen, sample = [], image.sample_latents

  def spy(emma, *given):
    key = next(
      x[0]
      for x in given
      if isinstance(x, jax.Array)
      and jnp.issubdtype(x.dtype, jax.dtypes.prng_key)
    )
    rows, columns = given[-1]
    shape = (rows * columns, emma.config.autoencoder.latent_channels)
    seen.append(np.array(jax.random.normal(key, shape, jnp.float32)))
    return sample(emma, *given)

  image.sample_latents = spy  # type: ignore[assignment]
  try:
    made = call(*args, **options)
  finally:
    image.sample_latents = sample
  (noise,) = seen
  return noise, made


# ---------------------------------------------------------------- table

HEAD = (
  "| config shape | export | answers equal | drawings | edits |\n"
  "|---|---|---|---|---|"
)


def line(row: Row, names: list[str]) -> str:
  """A row of the table, which `names` share."""
  return (
    f"| {', '.join(names)} | loads, runs | {row.equal} of {row.answers} "
    f"| {row.drawing} | {row.edit} |"
  )


def main(names: list[str]) -> None:
  """Prints the table of all shapes, or of those that stand for `names`."""
  print(HEAD, flush=True)
  for name, alike in groups().items():
    if not names or name in names:
      with tempfile.TemporaryDirectory() as folder:
        print(line(compare(name, Path(folder) / "out"), alike), flush=True)


if __name__ == "__main__":
  main(sys.argv[1:])
