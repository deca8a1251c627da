"""A --columns for a table whose columns are of no format but sound like one."""

from collections.abc import Sequence
import difflib

from emma_jax.data.ingest import rows

# Parts of the names that others give to our columns.
_SOUNDS = {
  "image": ("image", "img", "picture", "photo", "file", "path", "jpg", "png"),
  "caption": ("caption", "desc", "title", "label", "alt", "text", "prompt"),
}
# Our columns of a format, and what published sets call them: MagicBrush,
# UltraEdit, InstructPix2Pix, HQ-Edit, ShareGPT-4o-Image; ms-swift.
_NAMES = (
  {
    "source": (
      *("source", "source_image", "source_img", "original_image"),
      *("input_image", "edit_image", "image_src", "before", "image"),
    ),
    "instruction": (
      *("instruction", "edit_prompt", "edit_instruction", "edit"),
      *("input_prompt", "prompt", "text", "caption"),
    ),
    "target": (
      *("target", "target_image", "target_img", "edited_image"),
      *("output_image", "image_tgt", "after", "image"),
    ),
  },
  {
    "question": ("question", "query", "problem"),
    "answer": ("answer", "response", "solution"),
  },
)


def none_of_the_formats(columns: Sequence[str]) -> str:
  """What a conversion says of rows with such columns: first what to do."""
  formats = {name: ", ".join(form.keys) for name, form in rows.FORMATS.items()}
  formats["captions"] += f" and one of {', '.join(rows.CAPTIONS)}"
  like = suggestion(columns)
  if like and rows.pictures_of_edits(dict.fromkeys(columns, "x")):
    like += " (--format captions takes an image and its text alone)"
  return (
    f"The first rows have the columns {list(columns)}, of none of the formats; "
    "name them with --columns OURS=THEIRS of emma-data convert"
    f"{f', perhaps {like}' if like else ''}. The formats have: "
    f"{'; '.join(f'{name}: {keys}' for name, keys in formats.items())}."
  )


def suggestion(columns: Sequence[str]) -> str:
  """A --columns for columns whose names sound like ours; "" where none do.

  >>> suggestion(["photo_path", "description"])
  '--columns image=photo_path,caption=description'
  >>> suggestion(["edit_prompt", "edited_image", "source_image"])
  '--columns source=source_image,instruction=edit_prompt,target=edited_image'
  """
  found = _by_name(columns) or _by_sound(columns)
  pairs = [f"{ours}={theirs}" for ours, theirs in found.items()]
  return "--columns " + ",".join(pairs) if pairs else ""


def _by_name(columns: Sequence[str]) -> dict[str, str]:
  """Of a format whose every column has a known name."""
  short = lambda column: next(iter(rows.with_file_names({column: 0})))
  lower = {short(c).lower(): c for c in reversed(columns)}
  for names in _NAMES:
    found = {
      ours: next((lower[c] for c in theirs if c in lower), "")
      for ours, theirs in names.items()
    }
    if all(found.values()) and len(set(found.values())) == len(found):
      return {k: v for k, v in found.items() if k != v}
  return {}


def _by_sound(columns: Sequence[str]) -> dict[str, str]:
  """Of pictures with captions."""
  found: dict[str, str] = {}
  for ours, words in _SOUNDS.items():
    like = [c for c in columns if any(w in c.lower() for w in words)]
    like += difflib.get_close_matches(ours, columns, 1, 0.7)
    fresh = [c for c in like if c not in found.values()]
    if ours not in columns and fresh:
      found[ours] = fresh[0]
  return found if set(found) | set(columns) >= set(_SOUNDS) else {}
