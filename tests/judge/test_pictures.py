import io

from PIL import Image
import pytest

from emma_jax.judge import pictures
from tests.judge.common import picture

pytestmark = pytest.mark.smoke


def opened(data: bytes) -> Image.Image:
  image = Image.open(io.BytesIO(data))
  image.load()
  return image


@pytest.mark.parametrize(
  "kind, wanted, sent",
  [
    ("PNG", "as_is", "png"),
    ("JPEG", "as_is", "jpeg"),
    ("WEBP", "as_is", "webp"),
    ("GIF", "as_is", "gif"),
    ("BMP", "as_is", "png"),  # servers do not read it
    ("PNG", "png", "png"),
    ("JPEG", "png", "png"),
    ("PNG", "jpeg", "jpeg"),
    ("JPEG", "jpeg", "jpeg"),
  ],
)
def test_formats(kind, wanted, sent):
  data = picture("red", kind=kind)
  media, file = pictures.sent(data, wanted, 0)
  assert media == f"image/{sent}"
  # Byte by byte where it is right already.
  assert (file == data) == (kind.lower() == sent)
  image = opened(file)
  assert image.format.lower() == sent and image.size == (40, 20)
  red, green, blue = image.convert("RGB").getpixel((9, 9))
  assert red > 250 and green < 5 and blue < 5


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_sizes(kind):
  data = picture(size=(300, 30), kind=kind)
  assert pictures.sent(data, "as_is", 300)[1] == data
  media, file = pictures.sent(data, "as_is", 100)
  assert opened(file).size == (100, 10) and media == f"image/{kind.lower()}"


def test_transparent_pictures_are_on_white_as_jpeg_and_stay_so_as_png():
  clear = picture((255, 0, 0, 0), kind="WEBP", mode="RGBA", lossless=True)
  image = opened(pictures.sent(clear, "jpeg", 0)[1])
  assert min(image.getpixel((9, 9))) > 250
  image = opened(pictures.sent(clear, "png", 0)[1])
  assert image.getpixel((9, 9))[3] == 0


def test_pictures_that_are_drawn_anew_stand_upright():
  exif = Image.Exif()
  exif[0x0112] = 6  # lies on its side
  data = picture(size=(40, 20), kind="JPEG", exif=exif)
  assert opened(pictures.sent(data, "png", 0)[1]).size == (20, 40)


@pytest.mark.parametrize("mode", ["L", "P", "1", "I;16", "LA", "CMYK"])
def test_modes(mode):
  kind = "TIFF" if mode == "CMYK" else "PNG"
  data = picture(0 if mode != "LA" else (0, 255), kind=kind, mode=mode)
  assert opened(pictures.sent(data, "jpeg", 10)[1]).size == (10, 5)


@pytest.mark.parametrize("data", [b"", b"none", picture()[:40]])
def test_what_is_no_picture(data):
  with pytest.raises(pictures.BadPicture):
    pictures.sent(data, "jpeg", 10)
