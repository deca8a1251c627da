"""Folders of pictures that the benchmarks' own scripts score.

  geneval  djghosh13/geneval, README.md and evaluation/evaluate_images.py:
           00000/metadata.jsonl, 00000/samples/0000.png, 0001.png, ...
  dpg      TencentQQGYLab/ELLA, dpg_bench/compute_dpg_bench.py: <item>.png, four
           pictures in a grid of two by two; --resolution is a picture's side
  gedit    stepfun-ai/Step1X-Edit, GEdit-Bench/EVAL.md, generate_image_example.
           py: fullset/<type>/<language>/<key>.png and <key>_SRCIMG.png
  imgedit  PKU-YuanGroup/ImgEdit, Benchmark/Basic/basic_bench.py: <key>.png

These scripts take what they find: a picture more or less, or of another run, is
scored without a word. So a folder is begun empty, and has all pictures or none.
"""

from collections.abc import Callable, Mapping
import io
import json
import os
import re
import shutil

from PIL import Image

from emma_jax import files
from emma_jax.benchmarks.items import BadItem
from emma_jax.benchmarks.protocols import drawing, edits
from emma_jax.benchmarks.records import BadRun
from emma_jax.benchmarks.toolkits.predicted import Predicted

_GRID = 4  # pictures of a DPG prompt
# What file names may be; ids of the sets are.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_ -]*")


def geneval(one: Predicted, folder: str) -> None:
  """00000/metadata.jsonl and 00000/samples/0000.png, ... of each prompt."""
  for n, (item, made) in enumerate(one.pictures()):
    place = os.path.join(folder, f"{n:05d}")
    checks = json.dumps(drawing.needed(item, "checks"))
    files.write_text(os.path.join(place, "metadata.jsonl"), checks)
    for repeat, picture in enumerate(made):
      _write(os.path.join(place, "samples", f"{repeat:04d}.png"), picture)


def dpg(one: Predicted, folder: str) -> None:
  """<item>.png, a grid, of each prompt; all of one square size.

  Raises:
    BadRun: not four pictures, or of other shapes, which the script would cut
      elsewhere than they end.
  """
  sides: dict[tuple[int, int], str] = {}
  for item, made in one.pictures():
    if len(made) != _GRID:
      raise BadRun(
        f"{item.id} has {len(made)} pictures; DPG-Bench takes {_GRID}. Predict "
        f"with --config.sets.{one.settings.name}.repeats={_GRID}."
      )
    tiles = [Image.open(io.BytesIO(picture)).convert("RGB") for picture in made]
    sides |= {tile.size: item.id for tile in tiles}
    if len(sides) > 1 or tiles[0].width != tiles[0].height:
      raise BadRun(
        "DPG-Bench takes squares of one size; there are "
        + ", ".join(f"{w} x {h} ({name})" for (w, h), name in sides.items())
        + f". Predict with --config.sets.{one.settings.name}.size=(N, N)."
      )
    side = tiles[0].width
    grid = Image.new("RGB", (2 * side, 2 * side))
    for n, tile in enumerate(tiles):
      grid.paste(tile, (n % 2 * side, n // 2 * side))
    _write(_named(folder, item.id), _png(grid))


def gedit(one: Predicted, folder: str) -> None:
  """The edit and what was edited, by type and language."""
  for item, (made,) in one.pictures():
    place = os.path.join(
      folder,
      "fullset",
      str(drawing.needed(item, "category")),
      str(item.meta.get("instruction_language", one.settings.split)),
    )
    source = item.pictures[-1]  # `input_image`, which the judge is shown
    shown = edits.decode(source.bytes(), source.where)
    _write(_named(place, item.id), made)
    _write(_named(place, f"{item.id}_SRCIMG"), _png(shown))


def imgedit(one: Predicted, folder: str) -> None:
  """<key>.png of each edit."""
  for item, (made,) in one.pictures():
    _write(_named(folder, item.id), made)


FOLDERS: Mapping[str, Callable[[Predicted, str], None]] = {
  "geneval": geneval,
  "dpg": dpg,
  "gedit": gedit,
  "imgedit": imgedit,
}


def write(one: Predicted, dest: str) -> str:
  """The folder of a set; its name is the set's.

  Raises:
    BadRun: predictions that are missing or failed; a folder that is not empty.
    BadItem: an item that the original's layout has no place for.
  """
  name = one.settings.benchmark.name
  folder = os.path.join(dest, f"{name}_{one.settings.split}")
  if os.path.isdir(folder) and os.listdir(folder):
    raise BadRun(
      f"{folder} is not empty, and its pictures would be scored as well; "
      "delete it or name another --dest."
    )
  part = folder + files.TEMPORARY
  shutil.rmtree(part, ignore_errors=True)  # of a run that was stopped
  FOLDERS[name](one, part)
  os.rename(part, folder)
  return folder


def _named(folder: str, name: str) -> str:
  if not _NAME.fullmatch(name):
    raise BadItem(f"The item {name!r} cannot name a file.")
  return os.path.join(folder, f"{name}.png")


def _png(picture: Image.Image) -> bytes:
  out = io.BytesIO()
  picture.save(out, "PNG")
  return out.getvalue()


def _write(path: str, data: bytes) -> None:
  with files.atomic_write(path) as file:
    file.write(data)
