"""What MkDocs does besides: a page of the API for every room of the package."""

import ast
import pathlib

from mkdocs.structure.files import File

ROOT = pathlib.Path(__file__).resolve().parents[1]
PACKAGE = "emma_jax"


def on_files(files, config):
  """Adds `api/ROOM.md` for the package and each folder in it, and the list."""
  lines = ["# API\n", "From the docstrings of the package, room by room.\n"]
  for folder in sorted({p.parent for p in (ROOT / PACKAGE).rglob("*.py")}):
    name = ".".join(folder.relative_to(ROOT).parts)
    text = _page(name, folder)
    if text:
      files.append(File.generated(config, f"api/{name}.md", content=text))
      lines.append(f"- [{name}]({name}.md): {_first_line(folder)}")
  index = "\n".join(lines) + "\n"
  files.append(File.generated(config, "api/index.md", content=index))
  return files


def _page(name: str, folder: pathlib.Path) -> str:
  """The modules of a room, each by its docstring; "" where there are none."""
  found = [p for p in sorted(folder.glob("*.py")) if _documented(p)]
  blocks = [f"::: {name}.{p.stem}\n" for p in found if p.stem[:1] != "_"]
  return f"# {name}\n\n" + "\n".join(blocks) if blocks else ""


def _documented(path: pathlib.Path) -> bool:
  return bool(ast.get_docstring(ast.parse(path.read_text("utf-8"))))


def _first_line(folder: pathlib.Path) -> str:
  init = folder / "__init__.py"
  tree = ast.parse(init.read_text("utf-8")) if init.exists() else None
  return ((tree and ast.get_docstring(tree)) or "").partition("\n")[0]
