"""What often lies where a picture or a data file should, by its first bytes."""

from emma_jax import files

_SAVE = "save it as JPEG or PNG"
# Brands of ISO files (bytes 8 to 12): of pictures in HEVC; others are videos.
_HEIC = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
_AVIF = (b"avif", b"avis")
_BEGINS = (
  (b"\x00\x00\x00\x0cJXL ", f"JPEG XL; {_SAVE}"),
  (b"\xff\x0a", f"JPEG XL; {_SAVE}"),
  (b"8BPS", f"a Photoshop file; {_SAVE}"),
  (b"%PDF", f"a PDF; {_SAVE}"),
  (b"\x28\xb5\x2f\xfd", "compressed by zstd; unpack it (zstd -d)"),
)


def told(head: bytes) -> str:
  """What a file is instead, and what to do; "" where its head tells nothing.

  Args:
    head: its first `files.HEAD` bytes.

  >>> told(b"%PDF-1.7")
  'a PDF; save it as JPEG or PNG'
  """
  if found := files.stand_in(head):
    return found
  for begin, what in _BEGINS:
    if head.startswith(begin):
      return what
  if head[4:8] == b"ftyp" and head[8:12] not in _AVIF:
    return f"HEIC; {_SAVE}" if head[8:12] in _HEIC else "a video"
  text = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
  if text.startswith(b"<svg"):
    return f"an SVG; {_SAVE}"
  if text.startswith(b"<?xml"):
    return f"an SVG; {_SAVE}" if b"<svg" in text else "a text in XML"
  return ""
