"""Pictures from disk to packed rows, beside a plain PyTorch DataLoader.

Both read the same JPEG files on one core, fit them to one frame and make uint8
batches; ours from ArrayRecord, packed into rows with their texts and ids. With
Pillow on both sides the pixels are equal, which is checked.
"""

from collections.abc import Callable, Iterator, Sequence
import dataclasses
import io
import json
import os
from typing import Any

import numpy as np
from PIL import Image

from emma_jax.data.batching.mixture import Phase
from emma_jax.data.batching.row_layout import Layout
from emma_jax.data.ingest import job, part
from emma_jax.data.loading import dataset
from emma_jax.data.pictures import images
from emma_jax.data.pictures.framing import Framing
from emma_jax.data.pictures.preprocess import Preprocess
from emma_jax.data.text.tokenizer import TinyTokenizer

ROW = "data"
# Ours with either codec, and torch's DataLoader with Pillow.
SIDES = ("fast", "pillow", "loader")
# (share, y, x): what data sets of photos are made of, roughly.
_SIZES = ((0.4, 480, 640), (0.4, 768, 1024), (0.2, 1536, 2048))
_SETTINGS = "settings.json"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
  """Of a comparison: how many pictures, their frame, and how many a batch."""

  count: int
  height: int
  width: int
  batch: int

  def __post_init__(self):
    if self.count < 1 or self.count % self.batch:
      raise ValueError(
        f"{self.count} pictures do not make batches of {self.batch}; choose "
        "a multiple."
      )


def photo(rng: np.random.Generator, y: int, x: int) -> np.ndarray:
  """uint8 (Y, X, 3) with detail at every scale, edges and noise."""
  out = np.zeros((y, x, 3))
  for scale in (4, 8, 16, 32, 64, 128):
    shape = (y // scale + 2, x // scale + 2, 3)
    small = rng.normal(128, 12 * scale**0.4, shape)
    image = Image.fromarray(np.clip(small, 0, 255).astype(np.uint8))
    out += np.asarray(image.resize((x, y), Image.Resampling.BICUBIC)) / 6.0
  for _ in range(40):
    a, b = rng.integers(0, y), rng.integers(0, x)
    h, w = rng.integers(y // 32, y // 4), rng.integers(x // 32, x // 4)
    patch_YXC = out[a : a + h, b : b + w]
    out[a : a + h, b : b + w] = 0.3 * patch_YXC + 0.7 * rng.integers(0, 256, 3)
  return np.clip(out + rng.normal(0, 3, out.shape), 0, 255).astype(np.uint8)


def prepare(
  folder: str, settings: Settings, pictures: Sequence[str] = ()
) -> int:
  """Writes JPEG files and the same as records; returns the files' bytes.

  pictures: JPEG files to take, over and over; without any, some are made.
  """
  os.makedirs(os.path.join(folder, "jpeg"))
  size, rows, rng = 0, [], np.random.default_rng(0)
  starts = np.cumsum([0.0, *(s for s, _, _ in _SIZES)]) * settings.count
  for i in range(settings.count):
    if pictures:
      with open(pictures[i % len(pictures)], "rb") as file:
        data = file.read()
    else:
      _, y, x = _SIZES[int(np.searchsorted(starts, i + 0.5)) - 1]
      out = io.BytesIO()
      Image.fromarray(photo(rng, y, x)).save(out, "JPEG", quality=90)
      data = out.getvalue()
    name = f"{i:05d}.jpg"
    with open(os.path.join(folder, "jpeg", name), "wb") as file:
      file.write(data)
    size += len(data)
    rows.append(
      {
        "id": str(i),
        "image": name,
        "conversations": [
          {"from": "human", "value": "What is it?"},
          {"from": "gpt", "value": f"Picture {i}."},
        ],
      }
    )
  lines = os.path.join(folder, "jpeg", "rows.jsonl")
  with open(lines, "w", encoding="utf-8") as file:
    file.writelines(json.dumps(row) + "\n" for row in rows)
  job.run(
    job.Job(
      inputs=[lines],
      out=os.path.join(folder, "records"),
      workers=0,
      maker=part.Recipe(form="conversations", tokenizer=_tokenizer()),
    )
  )
  with open(os.path.join(folder, _SETTINGS), "w", encoding="utf-8") as file:
    json.dump(dataclasses.asdict(settings), file)
  return size


def work(side: str, folder: str) -> tuple[Callable[[], Any], str]:
  """(one pass over all pictures, which libraries do it)."""
  with open(os.path.join(folder, _SETTINGS), encoding="utf-8") as file:
    settings = Settings(**json.load(file))
  run = _loader if side == "loader" else _ours
  batches, version = run(side, folder, settings)
  return lambda: sum(len(batch) for batch in batches()), version


def checksum(side: str, folder: str) -> list[int]:
  """Of every picture's pixels, ascending: the order of reading differs."""
  with open(os.path.join(folder, _SETTINGS), encoding="utf-8") as file:
    settings = Settings(**json.load(file))
  run = _loader if side == "loader" else _ours
  batches, _ = run(side, folder, settings)
  return sorted(
    hash(picture.tobytes()) for batch in batches() for picture in batch
  )


def _tokenizer() -> TinyTokenizer:
  return TinyTokenizer(["What", "is", "it", "Picture"])


Batches = Callable[[], Iterator[np.ndarray]]


def _preprocess(settings: Settings, codec: Any) -> Preprocess:
  """It checks `codec` itself."""
  return Preprocess(
    height=settings.height,
    width=settings.width,
    native=False,
    min_tokens=1,
    max_tokens=4096,
    codec=codec,
    fit="pad",
    max_crop=0.0,
  )


def _ours(side: str, folder: str, s: Settings) -> tuple[Batches, str]:
  """The pipeline of training, in this thread alone."""
  import PIL

  frame = (s.height // images.GRID) * (s.width // images.GRID)
  config = dataset.DataConfig(
    seed=0,
    sources={"a": f"records:{folder}/records"},
    phases=(
      Phase({"a": 1}, steps=None, unit="samples", even_buckets=False, row={}),
    ),
    samples_per_batch=s.batch,
    layout=Layout(
      rows=1,
      und_tokens=s.batch * (frame + 64),
      und_pictures=s.batch,
      references=0,
      targets=0,
      height=s.height,
      width=s.width,
      und_patches=0,
      latent_channels=0,
      fusion="channel",
      reference_branch="gen",
    ),
    latent_settings=None,
    plan_segment=1,
    framing=Framing(
      understanding=_preprocess(s, side),
      generation=_preprocess(s, side),
      buckets=(),
    ),
    packing_groups=1,
    text_dropout=0.0,
    reference_dropout=0.0,
    max_turns=None,
    max_pixels=images.MAX_PIXELS,
    max_bad_share=0.0,
    min_samples=0,
    workers=0,
    threads=0,
    prefetch_batches=0,
  )
  source = dataset.open_pipeline(config, _tokenizer())

  def batches() -> Iterator[np.ndarray]:
    with dataset.stream(source, threads=0, num_workers=0) as stream:
      for _ in range(s.count // s.batch):
        batch = next(stream).batch
        yield np.asarray(batch.und_pixels_BNYXC)[0]

  if side == "pillow":
    return batches, f"Pillow {PIL.__version__}"
  import cv2
  import simplejpeg

  return batches, f"simplejpeg {simplejpeg.__version__}, cv2 {cv2.__version__}"


def _loader(side: str, folder: str, s: Settings) -> tuple[Batches, str]:
  """What one would write without us: files, Pillow, default collation."""
  del side
  import torch
  from torch.utils import data

  fit = _preprocess(s, "pillow")
  with open(os.path.join(folder, "jpeg", "rows.jsonl"), "rb") as file:
    rows = [json.loads(line) for line in file]
  tokenizer = _tokenizer()

  class Pictures(data.Dataset):
    def __len__(self) -> int:
      return len(rows)

    def __getitem__(self, index: int) -> Any:
      row = rows[index]
      with Image.open(os.path.join(folder, "jpeg", row["image"])) as file:
        image = file.convert("RGB")
      y, x = fit.place(image.height, image.width).content
      # Resized as an image: no copy to an array and back.
      if (y, x) != (image.height, image.width):
        image = image.resize((x, y), Image.Resampling.BICUBIC)
      frame_YXC = np.full((s.height, s.width, 3), images.WHITE, np.uint8)
      frame_YXC[:y, :x] = np.asarray(image)
      said = [turn["value"] for turn in row["conversations"]]
      ids = np.zeros(64, np.int64)
      found = [i for text in said for i in tokenizer.encode(text)][:64]
      ids[: len(found)] = found
      return torch.from_numpy(frame_YXC), torch.from_numpy(ids)

  torch.set_num_threads(1)
  order = torch.Generator().manual_seed(0)
  loader = data.DataLoader(
    Pictures(), batch_size=s.batch, shuffle=True, num_workers=0, generator=order
  )

  def batches() -> Iterator[np.ndarray]:
    for pixels_BYXC, _ in loader:
      yield pixels_BYXC.numpy()

  return batches, f"torch {torch.__version__}"
