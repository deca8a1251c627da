"""What every command that reads data sets shares: its inputs and their rows."""

import argparse
from collections.abc import Sequence
import glob
import os
from typing import Any

from emma_jax.cli import common
from emma_jax.structs import STEM_GENERAL, STEM_SCIENCE, STEM_UNKNOWN

STEM = {"unknown": STEM_UNKNOWN, "general": STEM_GENERAL, "stem": STEM_SCIENCE}


def add_inputs(parser: argparse.ArgumentParser) -> None:
  """What is read, and how its rows are to be understood."""
  from emma_jax.data.ingest import rows

  add = parser.add_argument
  add(
    "inputs",
    nargs="+",
    metavar="INPUT",
    help="folders of records; or of one format: folders of pictures with "
    "texts, zips of them, files; patterns with * in quotes",
  )
  add(
    "--format",
    default="",
    choices=["", *rows.FORMATS],
    help="of the rows; default: what their columns tell",
  )
  add(
    "--images",
    metavar="DIR",
    help="folder or zip where relative paths of pictures begin (default: "
    "beside each file)",
  )
  add(
    "--allow-outside",
    action="store_true",
    help="read pictures outside of that folder, too: others' paths may name "
    "any file of this machine",
  )
  add(
    "--columns",
    default="",
    metavar="OURS=THEIRS,...",
    help="columns with other names: caption=blip_text",
  )
  add(
    "--keep",
    default="",
    metavar="COLUMN,...",
    help="further columns to keep as provenance",
  )
  add("--data-dir", metavar="DIR", help="of TFDS")


def files(patterns: list[str]) -> list[str]:
  """Absolute names, so that the provenance means something elsewhere."""
  out = []
  for pattern in patterns:
    kind, _, rest = pattern.partition(":")
    if kind == "records" or _is_data_set(pattern):
      folder = rest if kind == "records" else pattern
      out.append(f"records:{os.path.abspath(folder)}")
      continue
    if kind in ("tfds", "python"):
      out.append(pattern)
      continue
    if os.path.isdir(pattern):
      out.append(os.path.abspath(pattern))
      continue
    # A name may have brackets and be no pattern.
    named = os.path.isfile(pattern) or not glob.has_magic(pattern)
    found = [pattern] if named else sorted(glob.glob(pattern))
    missing = [name for name in found if not os.path.isfile(name)]
    if missing or not found:
      raise common.UserError(f"No such file: {(missing or [pattern])[0]}")
    out += map(os.path.abspath, found)
  return out


def check_apart(inputs: Sequence[str], out: str | os.PathLike[str]) -> None:
  """UserError for an output in a folder that is read as a whole: the next
  reading would find what this one has written."""
  real = os.path.realpath(out)
  for name in inputs:
    folder = os.path.realpath(name)
    if os.path.isdir(folder) and os.path.commonpath([real, folder]) == folder:
      raise common.UserError(
        f"--out {os.fspath(out)} lies in {name}, which is read with all that "
        "is in it; name a folder beside it."
      )


def _is_data_set(path: str) -> bool:
  """Whether a folder is, or is to become, one of records."""
  from emma_jax.data.records import card

  return os.path.isdir(path) and (
    card.is_data_set(path) or os.path.isdir(f"{path.rstrip('/')}.partial")
  )


def options(args: argparse.Namespace) -> dict[str, Any]:
  """Fields of part.Recipe that say how rows are read; perhaps UserError."""
  from emma_jax.data.ingest import sequences

  _check_flags(args)
  _check_images(args.images)
  return {
    "form": args.format,
    "columns": _columns(args.columns),
    "images_dir": args.images and os.path.abspath(args.images),
    "allow_outside": args.allow_outside,
    "keep": tuple(filter(None, args.keep.split(","))),
    "options": sequences.Options(data_dir=args.data_dir),
  }


def _check_flags(args: argparse.Namespace) -> None:
  """Records have no columns: flags about them would do nothing."""
  if not any(name.startswith("records:") for name in files(args.inputs)):
    return
  for flag in ("format", "images", "allow-outside", "columns", "keep"):
    if getattr(args, flag.replace("-", "_")):
      raise common.UserError(
        f"--{flag} says how rows are read; folders of records are read already."
      )


def _check_images(path: str | None) -> None:
  """UserError for what no picture can be found in."""
  zipped = path and path.lower().endswith(".zip") and os.path.isfile(path)
  if path and not os.path.isdir(path) and not zipped:
    raise common.UserError(f"--images {path} is neither a folder nor a zip.")


def _columns(text: str) -> dict[str, str]:
  out = {}
  for pair in filter(None, text.split(",")):
    ours, equals, theirs = pair.partition("=")
    if not (ours and equals and theirs):
      raise common.UserError(f"--columns {pair}: expected OURS=THEIRS.")
    out[ours] = theirs
  return out
