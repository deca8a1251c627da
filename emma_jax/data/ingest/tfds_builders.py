"""TensorFlow Datasets builders of the public sets, with columns as published.

  llava_558k        id, image, conversations                (LLaVA-Pretrain)
  llava_onevision   id, image, conversations, data_source   (LLaVA-OneVision)
  fine_vision       images, texts, source, four ratings     (FineVision)
  x2i2              task_type, instruction, input_images, output_image (X2I2)
  omni_edit         omni_edit_id, task, src_img, edited_img, edited_prompt_list,
                    sizes and scores             (OmniEdit-Filtered-1.2M)

Importing this module makes their names known to `tfds.builder`. TensorFlow is
not needed, TFDS is (extra `tfds`). What was downloaded by hand lies in
DATA_DIR/downloads/manual/NAME: the files as published (Parquet, JSON, JSON
lines, WebDataset tars) with pictures beside them where rows hold paths.
Pictures stay encoded, as bytes: a damaged one is found when it is converted, or
leaves a hole in training, and never ends the preparation.
"""

from collections.abc import Iterator, Mapping
import os
from typing import Any, ClassVar

from absl import logging
import numpy as np
import tensorflow_datasets as tfds

from emma_jax.data.ingest import files as files_lib
from emma_jax.data.pictures.encoded import encoded
from emma_jax.data.pictures.images import BadRecord

# Rows of a container that are found in one go; nothing is held in memory.
_ROWS = 4096


def _features() -> dict[str, dict[str, Any]]:
  """Per set; the order is that of the publication."""
  f = tfds.features
  text, number, score = f.Text(), np.int64, np.float32
  # Not features.Image: what is no picture must be read, to be counted.
  picture = f.Tensor(shape=(), dtype=np.bytes_)
  said = f.Sequence({"from": f.Text(), "value": f.Text()})
  rated: dict[str, Any] = {}
  for name in (
    "relevance",
    "image_correspondence",
    "visual_dependency",
    "formatting",
  ):
    rated |= {f"{name}_ratings": f.Sequence(number), f"{name}_min": number}
  return {
    # `image` is absent from questions without one: a list of none or one.
    "llava_558k": {
      "id": text,
      "image": f.Sequence(picture),
      "conversations": said,
    },
    "llava_onevision": {
      "id": text,
      "image": f.Sequence(picture),
      "conversations": said,
      "data_source": text,
    },
    "fine_vision": {
      "images": f.Sequence(picture),
      "texts": f.Sequence({"user": f.Text(), "assistant": f.Text()}),
      "source": text,
      **rated,
    },
    "x2i2": {
      "task_type": text,
      "instruction": text,
      "input_images": f.Sequence(picture),
      "output_image": picture,
    },
    "omni_edit": {
      "omni_edit_id": text,
      "task": text,
      "src_img": picture,
      "edited_img": picture,
      "edited_prompt_list": f.Sequence(f.Text()),
      "width": number,
      "height": number,
      "sc_score_1": score,
      "sc_score_2": score,
      "sc_reasoning": text,
      "pq_score": score,
      "o_score": score,
    },
  }


_PICTURES = (
  "image",
  "images",
  "input_images",
  "output_image",
  "src_img",
  "edited_img",
)
_HOMES = {
  "llava_558k": "https://huggingface.co/datasets/liuhaotian/LLaVA-Pretrain",
  "llava_onevision": "https://huggingface.co/datasets/lmms-lab/LLaVA-OneVision-Data",
  "fine_vision": "https://huggingface.co/datasets/HuggingFaceM4/FineVision",
  "x2i2": "https://huggingface.co/datasets/OmniGen2/X2I2",
  "omni_edit": "https://huggingface.co/datasets/TIGER-Lab/OmniEdit-Filtered-1.2M",
}


class _Published(
  tfds.core.GeneratorBasedBuilder,
  skip_registration=True,  # type: ignore[call-arg]  # TFDS has no types
):
  """Rows of all files in the folder of the set, in the order of their names."""

  VERSION = tfds.core.Version("1.0.0")
  RELEASE_NOTES: ClassVar[dict[str, str]] = {
    "1.0.0": "Columns as published; pictures as bytes."
  }
  MANUAL_DOWNLOAD_INSTRUCTIONS = (
    "Put the published files, with archives of pictures unpacked, into "
    "DATA_DIR/downloads/manual/NAME, NAME as in tfds.builder(NAME)."
  )

  def _info(self) -> tfds.core.DatasetInfo:
    return tfds.core.DatasetInfo(
      builder=self,
      features=tfds.features.FeaturesDict(_features()[self.name]),
      homepage=_HOMES[self.name],
      disable_shuffling=True,
    )

  def _split_generators(self, dl_manager) -> dict[str, Any]:
    folder = os.path.join(dl_manager.manual_dir, self.name)
    files = sorted(
      os.path.join(base, name)
      for base, _, names in os.walk(folder)
      for name in names
      if files_lib.kind_of(name)
    )
    if not files:
      raise FileNotFoundError(
        f"{folder} has no files that end in {files_lib.SUFFIXES}. Download "
        f"{_HOMES[self.name]} there."
      )
    return {"train": self._generate_examples(files)}

  def _generate_examples(
    self, files: list[str]
  ) -> Iterator[tuple[int, dict[str, Any]]]:
    count, bad = 0, 0
    for path in files:
      for where, row in _rows(path):
        try:
          if isinstance(row, BadRecord):
            raise row
          example = example_of(row, self.info.features, where, path)
        except BadRecord as error:
          bad += 1
          logging.warning("%s is left out: %s", where, error.reason)
          continue
        yield count, example
        count += 1
    if bad:
      logging.warning("%d rows of %d are left out.", bad, count + bad)


def _rows(path: str) -> Iterator[files_lib.Item]:
  kind = files_lib.kind_of(path)
  assert kind is not None  # its name ends in one of SUFFIXES
  for part in files_lib.split(kind, path, _ROWS):
    yield from files_lib.read(part)


def example_of(
  row: Mapping[str, Any], features: Mapping[str, Any], where: str, path: str
) -> dict[str, Any]:
  """A published row as TFDS wants it; BadRecord where it cannot be."""
  folder = os.path.dirname(os.path.abspath(path))
  bytes_of = lambda value, key: encoded(value, key, where, folder)
  out = {}
  for key, feature in features.items():
    value: Any = row.get(key)
    many = isinstance(feature, tfds.features.Sequence)
    if many and not isinstance(value, (list, tuple)):
      value = [] if value is None or value == "" else [value]
    if key in _PICTURES:
      if key == "output_image" and isinstance(value, list) and len(value) == 1:
        value = value[0]
      value = (
        [bytes_of(v, key) for v in value] if many else bytes_of(value, key)
      )
    elif not many and value is None:
      # Numbers and texts that a row lacks: ratings of some, mostly.
      value = "" if isinstance(feature, tfds.features.Text) else -1
    out[key] = value
  return out


class Llava558k(_Published):
  """558,128 captions of the alignment stage, as questions and answers."""

  name = "llava_558k"


class LlavaOnevision(_Published):
  """Single-picture and text-only questions of many kinds."""

  name = "llava_onevision"


class FineVision(_Published):
  """24 million questions about 17 million pictures, rated turn by turn."""

  name = "fine_vision"


class X2i2(_Published):
  """Edits and drawings with references of OmniGen2."""

  name = "x2i2"


class OmniEdit(_Published):
  """1.2 million filtered edits of seven specialists."""

  name = "omni_edit"


NAMES = tuple(_HOMES)
