"""What often lies where a picture or a data file should, by its first bytes."""

# Bytes that tell.
HEAD = 512
_SAVE = "save it as JPEG or PNG"
# Brands of ISO files (bytes 8 to 12): of pictures in HEVC; others are videos.
_HEIC = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
_AVIF = (b"avif", b"avis")
_POINTER = b"version https://git-lfs"
_BEGINS = (
  (_POINTER, "a Git LFS pointer; git lfs pull gets the file"),
  (b"\x00\x00\x00\x0cJXL ", f"JPEG XL; {_SAVE}"),
  (b"\xff\x0a", f"JPEG XL; {_SAVE}"),
  (b"8BPS", f"a Photoshop file; {_SAVE}"),
  (b"%PDF", f"a PDF; {_SAVE}"),
  (b"\x28\xb5\x2f\xfd", "compressed by zstd; unpack it (zstd -d)"),
)
_TEXTS = (
  (
    (b"<!doctype html", b"<html"),
    "a web page, saved in its place; get it anew",
  ),
  ((b"<svg",), f"an SVG; {_SAVE}"),
)


def is_pointer(head: bytes) -> bool:
  """Whether it is Git LFS's word for a file: a text like any other."""
  return head.startswith(_POINTER)


def told(head: bytes) -> str:
  """What a file is instead, and what to do; "" where its head tells nothing.

  >>> told(b"<!DOCTYPE html><html>")
  'a web page, saved in its place; get it anew'
  """
  if head and not head.strip(b"\0"):
    return "zeros alone; get it anew"
  for begin, what in _BEGINS:
    if head.startswith(begin):
      return what
  if head[4:8] == b"ftyp" and head[8:12] not in _AVIF:
    return f"HEIC; {_SAVE}" if head[8:12] in _HEIC else "a video"
  text = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
  for begins, what in _TEXTS:
    if text.startswith(begins):
      return what
  if text.startswith(b"<?xml"):
    return f"an SVG; {_SAVE}" if b"<svg" in text else "a text in XML"
  return ""
