"""The published parts that an EMMA starts from: what to download, and how.

Revisions are those that the sizes were read from; newer ones may do, and are
judged by their headers like any folder. Sizes of tensors: `Qwen3`'s by its
parameters in bfloat16 (the 0.6B and the 1.7B hold lm_head twice), the others'
by their files; parameters beside them are of the part that EMMA takes.
"""

from collections.abc import Iterable, Mapping
import dataclasses
import pathlib
from typing import Any

HUB = "https://huggingface.co"
FOLDER = "weights"  # where configs and commands here look for them


@dataclasses.dataclass(frozen=True, kw_only=True)
class Published:
  """A repository of the hub.

  flag: of `emma-convert init`, which it is given to.
  repository: owner/name.
  revision: a commit of it.
  size: bytes of its safetensors.
  parameters: of what EMMA takes from it.
  width: of the model, by which a config's part is told from its siblings.
  licence: as its page names it; "" where that could not be read.
  takes: what becomes of it.
  """

  flag: str
  repository: str
  revision: str
  size: int
  parameters: int
  width: int
  licence: str
  takes: str

  @property
  def name(self) -> str:
    """Without the owner: of the folder."""
    return self.repository.rpartition("/")[2]

  @property
  def page(self) -> str:
    """Where people read about it."""
    return f"{HUB}/{self.repository}/tree/{self.revision}"

  @property
  def terms(self) -> str:
    """The licence, or where it is to be read."""
    return self.licence or f"see {HUB}/{self.repository}"

  def download(self, folder: str | pathlib.Path | None = None) -> str:
    """The command that fetches it, by the package huggingface_hub."""
    where = folder or f"{FOLDER}/{self.name}"
    return (
      f"hf download {self.repository} --revision {self.revision} "
      f"--local-dir {where}"
    )


_QWEN3 = "text in both branches, and the tokenizer"
PUBLISHED = (
  Published(
    flag="qwen3",
    repository="Qwen/Qwen3-4B",
    revision="1cfa9a7208912126459214e8b04321603b3df60c",
    size=8_044_936_192,
    parameters=4_022_468_096,
    width=2560,
    licence="Apache-2.0",
    takes=_QWEN3,
  ),
  Published(
    flag="qwen3",
    repository="Qwen/Qwen3-1.7B",
    revision="70d244cc86ccca08cf5af4e1e306ecf908b1ad5e",
    size=4_063_479_808,
    parameters=1_720_574_976,
    width=2048,
    licence="Apache-2.0",
    takes=_QWEN3,
  ),
  Published(
    flag="qwen3",
    repository="Qwen/Qwen3-0.6B",
    revision="c1899de289a04d12100db370d81485cdf75e47ca",
    size=1_503_264_768,
    parameters=596_049_920,
    width=1024,
    licence="Apache-2.0",
    takes=_QWEN3,
  ),
  Published(
    flag="siglip2",
    repository="google/siglip2-so400m-patch16-512",
    revision="ceea1cba8130d8271436da4828633198c176a775",
    size=4_546_331_880,
    parameters=428_772_800,
    width=1152,
    licence="Apache-2.0",
    takes="the vision tower, twice; its text tower is left",
  ),
  Published(
    flag="dcae",
    repository="mit-han-lab/dc-ae-f32c32-sana-1.1-diffusers",
    revision="6f7b3f3b289a439a11ef4fb1034989fd4b9a4766",
    size=1_249_044_836,
    parameters=312_250_275,
    width=32,
    licence="",
    takes="the autoencoder, frozen",
  ),
)
FLAGS = ("qwen3", "siglip2", "dcae")


def of(flag: str, width: int | None = None) -> list[Published]:
  """Those that a flag takes, of a width or of all."""
  mine = [p for p in PUBLISHED if p.flag == flag]
  return [p for p in mine if width is None or p.width == width]


def of_model(model: Mapping[str, Any]) -> list[Published]:
  """Those that a config's section `model`, of an EMMA, is made of by its
  widths; fewer than three where nobody published such a part."""
  widths = {
    "qwen3": model["llm"]["width"],
    "siglip2": model["vision"]["encoder"]["width"],
    "dcae": model["autoencoder"]["latent_channels"],
  }
  return [p for flag, width in widths.items() for p in of(flag, width)]


def named(flag: str) -> str:
  """Those that a flag takes, in words, for its help.

  >>> named("dcae")
  'mit-han-lab/dc-ae-f32c32-sana-1.1-diffusers (1.2 GB)'
  """
  return ", ".join(f"{p.repository} ({gigabytes(p.size)})" for p in of(flag))


def gigabytes(size: int) -> str:
  """Bytes as people count them.

  >>> gigabytes(8_044_936_192)
  '8.0 GB'
  """
  return f"{size / 1e9:.1f} GB"


def downloads(parts: Iterable[Published]) -> str:
  """Commands, one a line, with sizes and licences behind them."""
  lines = [f"  {p.download()}  # {gigabytes(p.size)}, {p.terms}" for p in parts]
  return "\n".join(["  pip install huggingface_hub", *lines])
