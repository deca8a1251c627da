"""Packs a trained run into one float16 weight file, as the package ships them.

  python -m emma_jax.cli.pack autoencoder --workdir runs/autoencoder \\
      --out emma_jax/assets/world_autoencoder.safetensors
  python -m emma_jax.cli.pack model --workdir runs/reference \\
      --out emma_jax/assets/reference.safetensors

The averaged (EMA) weights of the newest sound checkpoint are taken. For an
autoencoder the latents' mean and deviation are measured first, so that
diffusion sees unit variance in every channel.
"""

import argparse
from collections.abc import Mapping
import json
import pathlib
import sys
from typing import Any

from emma_jax.cli import common


def _parser() -> argparse.ArgumentParser:
  parser = argparse.ArgumentParser(
    prog="python -m emma_jax.cli.pack",
    description=__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  parser.add_argument("what", choices=("autoencoder", "model"))
  parser.add_argument(
    "--workdir",
    required=True,
    type=pathlib.Path,
    help="folder of the finished run",
  )
  parser.add_argument(
    "--out", required=True, type=pathlib.Path, help=".safetensors file to write"
  )
  parser.add_argument(
    "--pictures",
    type=int,
    default=1024,
    help="pictures that latents are measured on (default: %(default)s)",
  )
  parser.add_argument(
    "--note",
    default="",
    help="kept in the metadata: command, duration, machine",
  )
  return parser


def _main(argv: list[str]) -> int:
  args = _parser().parse_args(argv)
  from emma_jax.checkpoints import locate, weight_files

  found = locate.read(str(args.workdir))
  params, meta = found.params, found.meta
  metadata = {
    "config": meta["config"],
    "fingerprints": meta["fingerprints"],
    "stage": meta["stage"],
    "step": steps_done(meta),
    "router_trained": meta["router_trained"],
    "note": args.note,
  }
  if args.what == "autoencoder":
    params, metadata["latents"] = measure(params, meta["config"], args.pictures)
  scores = args.workdir / "scores.json"
  if scores.is_file():
    metadata["scores"] = json.loads(scores.read_text())
  weight_files.save_weights(args.out, params, metadata, dtype="float16")
  print(
    f"Wrote {args.out}: {args.out.stat().st_size / 1e6:.2f} MB, stage "
    f"{meta['stage']}, step {metadata['step']}."
  )
  return 0


def steps_done(meta: Mapping[str, Any]) -> int:
  """Steps of all stages up to the checkpoint, not of its last one alone.

  >>> stages = {"a": {"steps": 10}, "b": {"steps": 30}}
  >>> steps_done({"config": {"stages": stages}, "stage": "b", "stage_step": 4})
  14
  """
  names = list(meta["config"]["stages"])
  before = names[: names.index(meta["stage"])]
  earlier = sum(meta["config"]["stages"][name]["steps"] for name in before)
  return earlier + meta["stage_step"]


def measure(
  params: Mapping[str, Any], config: Mapping[str, Any], pictures: int
) -> tuple[dict, dict]:
  """Parameters whose latents have mean 0 and deviation 1 per channel.

  Returns them with what was measured: the reconstruction's PSNR in dB over
  held-out pictures (peak 2, pictures in [-1, 1]).
  """
  import jax
  import jax.numpy as jnp
  import numpy as np

  from emma_jax.build import data as build_data
  from emma_jax.build import model as build_model
  from emma_jax.data.loading import sources
  from emma_jax.data.transforms import Picture
  from emma_jax.models.dcae import Autoencoder
  from emma_jax.models.emma import to_unit
  from emma_jax.structs import Record

  module = build_model.model(config["model"]).module
  spec = next(iter(config["data"]["sources"].values()))
  to_sample = build_data.to_sample(config["data"], training=False)

  def last(record: Record) -> np.ndarray:
    part = to_sample(record).parts[-1]
    assert isinstance(part, Picture)  # a drawing ends with what it shows
    return part.pixels_YXC

  def batches(source):
    for start in range(0, pictures, 32):
      pixels = [last(source[i]) for i in range(start, start + 32)]
      yield to_unit(jnp.asarray(np.stack(pixels)), jnp.float32)

  weights = params["autoencoder"]
  encode = jax.jit(
    lambda x: module.apply({"params": weights}, x, method=Autoencoder.encode)
  )
  decode = jax.jit(
    lambda z: module.apply({"params": weights}, z, method=Autoencoder.decode)
  )
  z = np.concatenate([encode(x) for x in batches(sources.open_source(spec))])
  shift, deviation = z.mean((0, 1, 2)), z.std((0, 1, 2))
  if deviation.min() <= 1e-3 * deviation.max():
    raise common.UserError(
      f"A latent channel hardly varies (deviation {deviation.min():.2g} of "
      f"{deviation.max():.2g}): the autoencoder needs more training."
    )
  held_out = sources.open_source(spec.replace(":train", ":test"))
  errors = [
    float(jnp.mean((decode(encode(x)) - x) ** 2)) for x in batches(held_out)
  ]
  measured = {
    "psnr": float(10 * np.log10(4 / np.mean(errors))),
    "pictures": pictures,
  }
  print(f"Held-out reconstructions: {measured['psnr']:.2f} dB.")
  latent = {"shift": shift, "scale": 1 / deviation}
  return {"autoencoder": {**weights, "latent": latent}}, measured


def main(argv: list[str] | None = None) -> int:
  """Runs the command; returns its exit code."""
  from emma_jax.checkpoints import checkpointer

  return common.run(_main, argv, (checkpointer.CheckpointError, OSError))


def entry() -> None:
  """The console script."""
  sys.exit(main())


if __name__ == "__main__":
  entry()
