"""Edits that were made, and judges that follow a script."""

from collections.abc import Callable, Mapping, Sequence
import io
from typing import Any

from PIL import Image

from emma_jax.benchmarks import suite
from emma_jax.benchmarks.items import Item, Picture
from emma_jax.benchmarks.records import Prediction
from emma_jax.judge.base import Call, Reply

HTML = "<!DOCTYPE html><style>p {margin: 3; padding: 4; top: 5}</style>"
RED, BLUE, GREEN = (200, 0, 0), (0, 0, 200), (0, 200, 0)
Said = str | Reply


def picture(
  size: tuple[int, int] = (64, 48),
  colour: tuple[int, ...] = RED,
  kind: str = "PNG",
  turned: int = 1,
) -> bytes:
  """A file of one colour; `turned` is its EXIF orientation."""
  mode = "RGB" if len(colour) == 3 else "RGBA"
  image = Image.new(mode, size, colour)
  exif = image.getexif()
  if turned != 1:
    exif[0x0112] = turned
  buffer = io.BytesIO()
  image.save(buffer, kind, exif=exif)
  return buffer.getvalue()


def seen(file: bytes) -> tuple[str, tuple[int, int], str]:
  """(format, size, its strongest channel's name) of a file."""
  with Image.open(io.BytesIO(file)) as image:
    strongest = max(zip(image.convert("RGB").getpixel((0, 0)), "rgb"))
    return str(image.format), image.size, strongest[1]


def item(category: str, *pictures: bytes, **meta: Any) -> Item:
  """An edit; without pictures of a red source, 64 x 48."""
  return Item(
    id="7",
    group="7",
    question="make it {blue}",
    pictures=tuple(
      Picture(f"row {n}", lambda data=data: data)
      for n, data in enumerate(pictures or (picture(),))
    ),
    meta={"category": category, **meta},
  )


def case(
  name: str,
  impl: str,
  of: Item,
  judge: Callable[[Call], Reply],
  *,
  made: Sequence[bytes] = (),
  **more: Any,
) -> suite.Case:
  """A case whose edits are blue, 100 x 100, unless `made` says otherwise."""
  return suite.Case(
    set_name=name,
    item=of,
    made=[
      suite.Made(
        prediction=Prediction(
          id=of.id, repeat=n, key="k", settings="", prompt="p"
        ),
        load=lambda data=data: data,
      )
      for n, data in enumerate(made or (picture((100, 100), BLUE),))
    ],
    impl=impl,
    judge=judge,
    **more,
  )


class Script:
  """Replies by the last parts of the call's id; keeps the calls."""

  def __init__(self, replies: Mapping[str, Said]):
    self.replies, self.calls = replies, []

  def __call__(self, call: Call) -> Reply:
    self.calls.append(call)
    name = call.id.split("/", 3)[3]
    said = self.replies.get(name, Reply(status="absent", error="not in file"))
    return Reply(text=said) if isinstance(said, str) else said

  @property
  def names(self) -> list[str]:
    return [call.id.split("/", 3)[3] for call in self.calls]


def scores(
  name: str, impl: str, of: Item, replies: Mapping[str, Said], **more: Any
) -> tuple[list[suite.Score], Script]:
  judge = Script(replies)
  found = suite.find(name).score(case(name, impl, of, judge, **more))
  return list(found), judge


def score(
  name: str, impl: str, of: Item, replies: Mapping[str, Said], **more: Any
) -> tuple[suite.Score, Script]:
  (found,), judge = scores(name, impl, of, replies, **more)
  return found, judge
