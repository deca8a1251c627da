#!/usr/bin/env python3
"""What PyTorch computes from a published part, for `emma-convert check`.

  python launch/dump_reference.py --family qwen3 --folder weights/Qwen3-4B \\
      --out qwen3.npz
  emma-convert check --family qwen3 --folder weights/Qwen3-4B \\
      --reference qwen3.npz

Needs torch, numpy and transformers (qwen3, siglip2) or diffusers (dcae), in any
environment: nothing of emma_jax. Inputs are random, of --seed; all is computed
in float32 on the CPU, so the memory is that of float32 weights (16 GB of
Qwen3-4B). Names in the file: emma_jax/convert/check.py.
"""

import argparse
from collections.abc import Callable
import json
from pathlib import Path
import sys
from typing import Any

import numpy as np
import torch

Outputs = dict[str, Any]


def qwen3(folder: Path, args: argparse.Namespace) -> Outputs:
  """Logits and every hidden state of two texts, the second padded left."""
  from transformers import AutoModelForCausalLM

  model = _loaded(AutoModelForCausalLM, folder)
  shape, padding = (2, args.tokens), args.tokens // 4
  rng = np.random.default_rng(args.seed)
  tokens = torch.from_numpy(rng.integers(0, model.config.vocab_size, shape))
  mask = torch.ones(shape, dtype=torch.long)
  mask[1, :padding] = 0
  place = (mask.cumsum(1) - 1).clamp(min=0)
  inputs = dict(input_ids=tokens, attention_mask=mask, position_ids=place)
  out = model(**inputs, output_hidden_states=True, use_cache=False)
  return inputs | {"logits": out.logits} | _numbered(out.hidden_states)


def siglip2(folder: Path, args: argparse.Namespace) -> Outputs:
  """Of two pictures of the trained size: patches, pooled, hidden states."""
  import transformers

  config = json.loads((folder / "config.json").read_text("utf-8"))
  naflex = config["model_type"].startswith("siglip2")
  kind = "Siglip2VisionModel" if naflex else "SiglipVisionModel"
  model = _loaded(getattr(transformers, kind), folder)
  c, patch = model.config, model.config.patch_size
  side = patch * round(c.num_patches**0.5) if naflex else c.image_size
  pixels = _pictures(args, c.num_channels, side)
  if not naflex:
    out = model(pixels, output_hidden_states=True)
  else:
    grid = side // patch
    # Patches as rows of numbers, the channel fastest.
    cut = pixels.unfold(2, patch, patch).unfold(3, patch, patch)
    flat = cut.permute(0, 2, 3, 4, 5, 1).reshape(len(pixels), grid**2, -1)
    out = model(
      pixel_values=flat,
      pixel_attention_mask=torch.ones(flat.shape[:2], dtype=torch.long),
      spatial_shapes=torch.tensor([[grid, grid]] * len(pixels)),
      output_hidden_states=True,
    )
  made = {"pixel_values": pixels, "last_hidden_state": out.last_hidden_state}
  if out.pooler_output is not None:
    made["pooler_output"] = out.pooler_output
  return made | _numbered(out.hidden_states)


def dcae(folder: Path, args: argparse.Namespace) -> Outputs:
  """Latents of two pictures, and what these are decoded to."""
  import diffusers

  model = _loaded(diffusers.AutoencoderDC, folder)
  pixels = _pictures(args, model.config.in_channels, args.side)
  latent = model.encode(pixels).latent
  sample = model.decode(latent).sample
  return {"pixel_values": pixels, "latent": latent, "sample": sample}


def _loaded(kind: Any, folder: Path) -> Any:
  name = "torch_dtype" if kind.__module__.startswith("diffusers") else "dtype"
  return kind.from_pretrained(folder, **{name: torch.float32}).eval()


def _pictures(args: argparse.Namespace, channels: int, side: int) -> Any:
  """Two, in [-1, 1]."""
  rng = np.random.default_rng(args.seed)
  x = rng.uniform(-1, 1, (2, channels, side, side))
  return torch.from_numpy(x.astype(np.float32))


def _numbered(states: Any) -> Outputs:
  return {f"hidden_states.{i}": x for i, x in enumerate(states)}


FAMILIES: dict[str, Callable[[Path, argparse.Namespace], Outputs]] = {
  "qwen3": qwen3,
  "siglip2": siglip2,
  "dcae": dcae,
}


def _parser() -> argparse.ArgumentParser:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  add = parser.add_argument
  add("--family", required=True, choices=FAMILIES, help="of the folder")
  add("--folder", required=True, type=Path, help="as downloaded")
  add("--out", required=True, type=Path, metavar="FILE.npz", help="new file")
  add("--tokens", type=int, default=32, help="qwen3: of a text [32]")
  add("--side", type=int, default=256, help="dcae: pixels, times 32 [256]")
  add("--seed", type=int, default=0, help="of the inputs [0]")
  return parser


def main(argv: list[str] | None = None) -> int:
  """Writes the file; returns the exit code."""
  args = _parser().parse_args(argv)
  if not (args.folder / "config.json").is_file():
    print(
      f"error: {args.folder} holds no config.json; `emma-convert parts` names "
      "the commands that download one.",
      file=sys.stderr,
    )
    return 2
  if args.tokens < 4 or args.side < 32 or args.side % 32:
    print(
      f"error: --tokens {args.tokens} must be 4 or more, --side {args.side} a "
      "multiple of 32.",
      file=sys.stderr,
    )
    return 2
  with torch.inference_mode():
    made = FAMILIES[args.family](args.folder, args)
  with args.out.open("wb") as file:
    np.savez(file, **{name: x.numpy() for name, x in made.items()})
  print(f"Wrote {args.out}: {', '.join(made)}. Next:")
  print(
    f"  emma-convert check --family {args.family} --folder {args.folder} "
    f"--reference {args.out}"
  )
  return 0


if __name__ == "__main__":
  sys.exit(main())
