"""Ends of the names of files: which are pictures, texts, tables, or nothing."""

import os

PICTURES = (
  "jpg",
  "jpeg",
  "jfif",
  "png",
  "webp",
  "gif",
  "bmp",
  "tif",
  "tiff",
  "avif",
  "jp2",
  "ppm",
)
# A text beside a picture -> the column that it is.
TEXTS = {"txt": "caption", "text": "caption", "caption": "caption"}
# What stands in an archive or a folder as one row.
MEMBERS = (*PICTURES, *TEXTS, "json")
# Folders of a Mac's archives, of Synology's small pictures, of Windows' bin.
_OF_SYSTEM = ("__MACOSX", "@eaDir", "$RECYCLE.BIN")
# Texts that are of no picture, by the name without its end.
_ABOUT = ("readme", "license", "licence", "notice", "classes", "requirements")


def of(name: str) -> str:
  """The end of a name, in lower case.

  >>> of("a/b.c.PNG"), of("a.b/c")
  ('png', '')
  """
  return os.path.splitext(name)[1][1:].lower()


def is_picture(name: str) -> bool:
  """By its name alone."""
  return of(name) in PICTURES


def is_of_system(name: str) -> bool:
  """Files that a system left beside the user's own: hidden ones, a Mac's
  `._a.png` and `__MACOSX/`, Windows' Thumbs.db and desktop.ini, and what store
  servers and Windows keep in folders of theirs.

  >>> [is_of_system(x) for x in ("._a.png", "__MACOSX/a.png", "b/a.png")]
  [True, True, False]
  """
  parts = name.split("/")
  hidden = lambda p: p.startswith(".") and p != ".."
  return any(hidden(p) or p in _OF_SYSTEM for p in parts) or (
    parts[-1].lower() in ("thumbs.db", "desktop.ini")
  )


def is_about(name: str) -> bool:
  """README.txt and the like."""
  return os.path.splitext(os.path.basename(name))[0].lower() in _ABOUT
