"""Markdown pages as this project writes them, and what their code names."""

from collections.abc import Iterator
import importlib.util
from pathlib import Path
import re
import shlex
import tomllib

REPO = Path(__file__).resolve().parents[2]
MARK = "<!-- run -->"


def pages() -> list[Path]:
  """Every Markdown page that people read."""
  folders = ("configs", "docs", "emma_jax", "launch", "tests")
  found = [p for f in folders for p in sorted((REPO / f).rglob("*.md"))]
  return [REPO / "README.md", *found]


def read(page: Path) -> str:
  """A page's text, with the files that it takes in (`--8<-- "FILE"`)."""
  taken = lambda found: (REPO / found[1]).read_text("utf-8")
  return re.sub(r'^--8<-- "(.*)"$', taken, page.read_text("utf-8"), flags=re.M)


def prose(text: str) -> str:
  """A page without its blocks of code."""
  return re.sub(r"^```.*?^```", "", text, flags=re.M | re.S)


def anchors(text: str) -> set[str]:
  """Addresses of a page's headings, as GitHub and MkDocs make them.

  Raises:
    ValueError: two headings have one address.
  """
  headings = re.findall(r"^#+ (.*)", prose(text), re.M)
  plain = [re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings]
  found = [heading.strip().replace(" ", "-") for heading in plain]
  if len(set(found)) < len(found):
    raise ValueError(f"headings that are there twice: {sorted(found)}")
  return set(found)


def commands(text: str) -> list[list[str]]:
  """The words of each line in a page's code blocks; `\\` continues a line."""
  found = []
  for block in re.findall(r"^```\w*\n(.*?)^```", text, re.M | re.S):
    for line in block.replace("\\\n", " ").splitlines():
      words = _words(line)
      if words:
        found.append(words[1:] if words[0] == "$" else words)
  return found


def _words(line: str) -> list[str]:
  """As a shell splits them, without comments; what is no shell's, by spaces."""
  try:
    return shlex.split(line, comments=True)
  except ValueError:
    return re.sub(r"(^|\s)#.*", "", line).split()


def ours(text: str) -> Iterator[tuple[str, list[str]]]:
  """(module, arguments) of each of our commands in a page's code blocks.

  What follows a `--` is a command of its own.
  """
  for words in commands(text):
    while words:
      end = words.index("--") if "--" in words else len(words)
      found = module_command(words[:end])
      if found:
        yield found
      words = words[end + 1 :]


def module_command(words: list[str]) -> tuple[str, list[str]] | None:
  """(module, arguments) of `python -m emma_jax...` or of a console script."""
  scripts = tomllib.loads((REPO / "pyproject.toml").read_text())["project"][
    "scripts"
  ]
  for i, word in enumerate(words):
    if word in scripts:
      return scripts[word].split(":")[0], words[i + 1 :]
    more = words[i + 1 :]
    if word == "-m" and more and more[0].startswith("emma_jax"):
      return more[0], more[1:]
  return None


def unknown_script(words: list[str]) -> str:
  """An `emma-...` at a command's place that no script is; "" for none."""
  scripts = tomllib.loads((REPO / "pyproject.toml").read_text())["project"][
    "scripts"
  ]
  first = next((w for w in words if "=" not in w), "")
  odd = re.fullmatch(r"emma-[a-z-]+", first) and first not in scripts
  return first if odd else ""


def module_exists(name: str) -> bool:
  return importlib.util.find_spec(name) is not None


def keys_given(arguments: list[str]) -> tuple[str | None, dict[str, str]]:
  """A command's `--config`, and its `--config.KEY`s with their texts."""
  config, keys = None, {}
  for i, word in enumerate(arguments):
    name, equals, value = word.partition("=")
    value = value if equals else "".join(arguments[i + 1 : i + 2])
    if name == "--config":
      config = value
    elif name.startswith("--config."):
      keys[name.removeprefix("--config.")] = value
  return config, keys


def marked(text: str) -> list[str]:
  """The blocks of a page that are to be run, in order."""
  pattern = rf"^{re.escape(MARK)}\n+```(?:bash|sh)\n(.*?)^```"
  return re.findall(pattern, text, re.M | re.S)


def tree(text: str) -> set[str]:
  """Paths of the tree that a page draws, without what is said of them."""
  block = text.partition("## The tree")[2].split("```")[1]
  found: set[str] = set()
  above: dict[int, str] = {}
  for line in block.splitlines():
    words = line.split()
    indent = len(line) - len(line.lstrip())
    if indent > 8 or not words or not words[0].endswith(("/", ".py")):
      continue  # goes on with what is said of the line above
    above = {n: name for n, name in above.items() if n < indent}
    found.add("".join([*above.values(), words[0]]))
    above[indent] = words[0]
  return found
