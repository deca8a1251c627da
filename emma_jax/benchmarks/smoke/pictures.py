"""Small pictures of a rehearsal: charts, pages, plates, shapes.

Without blended edges, and with letters out of Pillow's own bitmaps: the same
pixels whatever fonts there are.
"""

from collections.abc import Mapping, Sequence
import io

from PIL import Image, ImageDraw, ImageFont

# Of Pillow's bitmap font: a letter's width, and a line's height with its space.
LETTER, LINE = 6, 11
_ORIENTATION = 0x0112  # of EXIF
_COLORS = 32  # more than any picture here has


def blank(
  width: int = 96, height: int = 96, color: str = "white"
) -> Image.Image:
  """A picture of one colour."""
  return Image.new("RGB", (width, height), color)


def write(
  picture: Image.Image,
  text: str,
  at: tuple[int, int],
  *,
  size: int = 1,
  color: str = "black",
) -> None:
  """Writes a line.

  Args:
    picture: is written on.
    text: of Latin letters.
    at: (x, y) of its upper left corner.
    size: times as large as the bitmaps.
    color: of the letters.
  """
  mask = Image.new("L", (LETTER * len(text), LINE))
  font = ImageFont.load_default_imagefont()
  ImageDraw.Draw(mask).text((0, 0), text, fill=255, font=font)
  full = mask.resize(
    (mask.width * size, mask.height * size), Image.Resampling.NEAREST
  )
  picture.paste(color, (at[0], at[1]), full)


def plate(
  text: str, *, color: str = "black", background: str = "white", size: int = 2
) -> Image.Image:
  """A word in a frame, on a picture that is as wide as it needs."""
  width = max(96, LETTER * size * len(text) + 24)
  picture = blank(width, 64, "grey")
  box = (6, 10, width - 7, 53)
  ImageDraw.Draw(picture).rectangle(box, background, "black")
  left = (width - LETTER * size * len(text)) // 2
  write(picture, text, (left, 32 - LINE * size // 2), size=size, color=color)
  return picture


def page(lines: Sequence[str], *, width: int = 128) -> Image.Image:
  """Lines of text, one below the other."""
  picture = blank(width, 12 + (LINE + 3) * len(lines))
  for n, line in enumerate(lines):
    write(picture, line, (6, 6 + (LINE + 3) * n))
  return picture


def bars(title: str, values: Mapping[str, int]) -> Image.Image:
  """A chart with a bar, a name and a number for each value."""
  step = 40
  picture = blank(step * len(values) + 16, 112)
  draw = ImageDraw.Draw(picture)
  write(picture, title, (6, 2))
  highest = max(values.values())
  for n, (name, value) in enumerate(values.items()):
    left = 10 + step * n
    top = 92 - round(60 * value / highest)
    color = ("steelblue", "orange", "seagreen", "firebrick")[n % 4]
    draw.rectangle((left, top, left + 24, 92), color)
    write(picture, str(value), (left + 6, top - LINE))
    write(picture, name, (left, 96))
  draw.line((6, 93, picture.width - 6, 93), "black")
  return picture


def shapes(
  *placed: tuple[str, str, tuple[int, int]],
  side: int = 30,
  background: str = "white",
  size: tuple[int, int] = (96, 96),
) -> Image.Image:
  """Shapes on a background.

  Args:
    placed: (shape, colour, (x, y) of its centre) each; a shape is a circle, a
      square or a triangle.
    side: of all of them, in pixels.
    background: its colour.
    size: (width, height).
  """
  picture = blank(*size, background)
  draw = ImageDraw.Draw(picture)
  half = side // 2
  for shape, color, (x, y) in placed:
    box = (x - half, y - half, x + half, y + half)
    if shape == "circle":
      draw.ellipse(box, color)
    elif shape == "square":
      draw.rectangle(box, color)
    elif shape == "triangle":
      draw.polygon([(x, y - half), (x - half, y + half), box[2:]], color)
    else:
      raise ValueError(f"{shape=} is none of circle, square, triangle.")
  return picture


def png(picture: Image.Image) -> bytes:
  """A file as small as may be: of a palette, without loss."""
  buffer = io.BytesIO()
  picture.quantize(_COLORS).save(buffer, "PNG", optimize=True)
  return buffer.getvalue()


def lying_jpeg(picture: Image.Image) -> bytes:
  """A JPEG that lies on its side, with the EXIF note that says so."""
  exif = Image.Exif()
  exif[_ORIENTATION] = 6  # is to be turned clockwise by 90 degrees
  buffer = io.BytesIO()
  lying = picture.transpose(Image.Transpose.ROTATE_90)
  lying.save(buffer, "JPEG", quality=80, exif=exif)
  return buffer.getvalue()
