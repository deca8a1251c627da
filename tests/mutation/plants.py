"""The planted bugs, and the tests that are to notice them."""

from collections.abc import Sequence
import dataclasses
from pathlib import Path
import tomllib

FOLDER = Path(__file__).resolve().parent / "plants"


class PlantError(ValueError):
  """A plant that does not apply to its file."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plant:
  """One bug.

  Attributes:
    path: of the file it is in, from the root of the tree.
    old: text that occurs once in that file; `new` takes its place.
    tests: files or folders that are run after the mirrored ones and goldens.
  """

  id: str
  room: str
  path: str
  what: str
  old: str
  new: str
  tests: tuple[str, ...]

  def apply(self, text: str) -> str:
    """The file with the bug.

    Raises:
      PlantError: `old` is not there, or several times, or `new` is the same.
    """
    found = text.count(self.old)
    if found != 1:
      raise PlantError(
        f"{self.id}: its text occurs {found} times in {self.path}, not once."
      )
    if self.old == self.new:
      raise PlantError(f"{self.id}: it changes nothing.")
    return text.replace(self.old, self.new)


def load(folder: Path = FOLDER) -> list[Plant]:
  """All plants, by room, in the order of their files."""
  return [
    plant for file in sorted(folder.glob("*.toml")) for plant in _room(file)
  ]


def _room(file: Path) -> list[Plant]:
  content = tomllib.loads(file.read_text())
  common = tuple(content["tests"])
  out = []
  for entry in content["mutant"]:
    own = tuple(entry.pop("tests", ()))
    out.append(Plant(room=file.stem, tests=own or common, **entry))
  return out


def tests_of(plant: Plant, tree: Path) -> list[list[str]]:
  """Test files in three groups: mirrored, goldens of the room, listed.

  Files that `tree` does not have, as an older suite may not, are left out; one
  that is in two groups counts in the first.
  """
  mirrored = _mirrored(plant.path, tree)
  goldens = _goldens(_place(plant.path), tree)
  listed: list[Path] = []
  for name in plant.tests:
    path = tree / name
    listed += sorted(path.rglob("test_*.py")) if path.is_dir() else [path]
  out, seen = [], set()
  for group in (mirrored, goldens, listed):
    names = [str(p.relative_to(tree)) for p in group if p.is_file()]
    out.append([n for n in dict.fromkeys(names) if n not in seen])
    seen |= set(names)
  return out


def _place(path: str) -> Path:
  """emma_jax/data/batching/first_fit.py -> tests/data/plan"""
  parts = Path(path).parent.parts
  return Path("tests", *parts[1:] if parts[:1] == ("emma_jax",) else parts)


def _mirrored(path: str, tree: Path) -> list[Path]:
  """test_flash_xla*.py, or else test_flash*.py, or else all of the folder.

  The shortest file first: which is mostly the fastest.
  """
  folder, stem = tree / _place(path), Path(path).stem
  while stem:
    found = [*folder.glob(f"test_{stem}.py"), *folder.glob(f"test_{stem}_*.py")]
    if found:
      return sorted(found, key=lambda p: (p.stat().st_size, p.name))
    stem = stem.rpartition("_")[0]
  # Of the top level that would be too many.
  deep = len(Path(path).parts) > 2
  return sorted(folder.glob("test_*.py")) if deep else []


def _goldens(place: Path, tree: Path) -> list[Path]:
  """Those of the folder and of the folders above, up to the room's."""
  out: list[Path] = []
  while len(place.parts) > 1:
    out += [
      p for p in sorted((tree / place).glob("test_*.py")) if _uses_goldens(p)
    ]
    place = place.parent
  return out


def _uses_goldens(path: Path) -> bool:
  return "goldens" in path.read_text(encoding="utf-8")


def chosen(
  plants: Sequence[Plant], rooms: Sequence[str], ids: Sequence[str]
) -> list[Plant]:
  """Those of the named rooms and ids; all where none is named.

  Raises:
    PlantError: a name that no plant has.
  """
  unknown = set(rooms) - {p.room for p in plants}
  unknown |= set(ids) - {p.id for p in plants}
  if unknown:
    raise PlantError(f"There are no rooms or plants {sorted(unknown)}.")
  return [
    p
    for p in plants
    if p.room in (rooms or [p.room]) and p.id in (ids or [p.id])
  ]
