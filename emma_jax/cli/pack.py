"""Packs a trained run into one weight file, as the package ships them.

  python -m emma_jax.cli.pack autoencoder --workdir runs/autoencoder \\
      --out emma_jax/assets/world_autoencoder.safetensors
  python -m emma_jax.cli.pack model --workdir runs/reference \\
      --out emma_jax/assets/reference.safetensors

The averaged (EMA) weights of the newest sound checkpoint are taken. For an
autoencoder the latents' mean and deviation are measured first, so that
diffusion sees unit variance in every channel. float16 has no number below 6e-8:
what is smaller becomes 0 and is counted; a weight most of which is so small is
refused, and `--dtype float32` keeps it.
"""

import argparse
import sys

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
    type=common.path,
    help="folder of the finished run",
  )
  parser.add_argument(
    "--out", required=True, type=common.path, help=".safetensors file to write"
  )
  parser.add_argument(
    "--pictures",
    type=int,
    default=1024,
    help="pictures that latents are measured on (default: %(default)s)",
  )
  parser.add_argument(
    "--dtype",
    default="float16",
    choices=("float16", "float32"),
    help="of the stored weights (default: %(default)s)",
  )
  parser.add_argument(
    "--note",
    default="",
    help="kept in the metadata: command, duration, machine",
  )
  return parser


def _main(argv: list[str]) -> int:
  args, overrides = common.parse_arguments(_parser(), argv)
  common.refuse_overrides("pack", overrides)
  from emma_jax.build import packed

  metadata, flushed = packed.pack(
    args.workdir,
    args.out,
    autoencoder=args.what == "autoencoder",
    pictures=args.pictures,
    dtype=args.dtype,
    note=args.note,
  )
  if args.what == "autoencoder":
    psnr = metadata["latents"]["psnr"]
    print(f"Held-out reconstructions: {psnr:.2f} dB.")
  if flushed:
    most = max(flushed, key=lambda name: flushed[name])
    print(
      f"{sum(flushed.values()):,} weights in {len(flushed)} arrays are too "
      f"small for {args.dtype} and were stored as 0, most of them, "
      f"{flushed[most]:,}, in {most}; --dtype float32 keeps them."
    )
  print(
    f"Wrote {args.out}: {args.out.stat().st_size / 1e6:.2f} MB, stage "
    f"{metadata['stage']}, step {metadata['step']}."
  )
  return 0


def main(argv: list[str] | None = None) -> int:
  """Runs the command; returns its exit code."""
  return common.run(_main, argv, _mistakes())


def _mistakes() -> tuple[type[Exception], ...]:
  from emma_jax.build import packed
  from emma_jax.checkpoints import checkpointer

  return (packed.Unmeasurable, checkpointer.CheckpointError, OSError)


def entry() -> None:
  """The console script."""
  sys.exit(main())


if __name__ == "__main__":
  entry()
