"""What the pages in Markdown name is there: files, headings, commands, flags,
config keys, variants; and the tree that is drawn is the tree."""

import contextlib
import importlib
import io
from pathlib import Path
import re
import tomllib

import ml_collections
import pytest

from emma_jax import structs
from emma_jax.benchmarks.data import sets
from emma_jax.build import config_file
from tests import test_layout
from tests.docs import changes, pages

REPO = pages.REPO
PAGES = pages.pages()
each_page = pytest.mark.parametrize(
  "page", PAGES, ids=lambda p: str(p.relative_to(REPO))
)


def test_headings_have_the_addresses_of_github():
  text = "# A `b` c\n```\n# no\n```\n## Servers, and what\n"
  assert pages.anchors(text) == {"a-b-c", "servers-and-what"}
  with pytest.raises(ValueError, match="twice"):
    pages.anchors("# a\n# a\n")


@each_page
def test_links_lead_somewhere(page):
  for link in re.findall(r"\]\(([^)\s]+)\)", pages.prose(pages.read(page))):
    if "://" in link:
      continue
    name, _, anchor = link.partition("#")
    other = page.parent / name if name else page
    if other.parent.name == "api":
      continue  # made as the pages are built, which fails for what is not there
    assert other.exists(), f"{page}: {link}"
    known = anchor and pages.anchors(pages.read(other))
    assert not anchor or anchor in known, f"{page}: {link}"


# ------------------------------------------------------------------ commands


def test_commands_joins_and_strips():
  text = "```bash\n$ a b \\\n  --c=1  # why\n```\ntext\n"
  assert pages.commands(text) == [["a", "b", "--c=1"]]


def test_keys_are_read_with_their_values():
  words = ["--config", "tiny", "--config.a.b=1", "--config.c", "2", "--d=3"]
  assert pages.keys_given(words) == ("tiny", {"a.b": "1", "c": "2"})


def test_marked_blocks_are_found():
  text = f"{pages.MARK}\n```bash\na\n```\n\n```bash\nb\n```\n"
  assert pages.marked(text) == ["a\n"]


def help_of(module: str, *sub: str) -> str:
  """What `python -m module sub --help` prints."""
  said = io.StringIO()
  with contextlib.redirect_stdout(said), pytest.raises(SystemExit) as end:
    importlib.import_module(module).main([*sub, "--help"])
  assert end.value.code == 0
  return said.getvalue()


HELPS: dict[tuple[str, ...], str] = {}  # of all pages


@each_page
def test_commands_have_their_modules_and_flags(page):
  text = page.read_text()
  for words in pages.commands(text):
    assert not pages.unknown_script(words), words
  for module, arguments in pages.ours(text):
    assert pages.module_exists(module), f"no module {module}"
    # A subcommand's flags are in the subcommand's help.
    sub = [a for a in arguments[:1] if re.fullmatch(r"[a-z][a-z_-]*", a)]
    key = (module, *sub)
    if key not in HELPS:
      HELPS[key] = help_of(*key)
    for flag in (a.split("=")[0] for a in arguments if a.startswith("--")):
      if not flag.startswith("--config."):
        known = re.search(rf"{flag}(?![\w-])", HELPS[key])
        assert known, f"{' '.join(key)} has no {flag}"


@each_page
def test_commands_have_configs_with_their_keys(page):
  """As the command would read them; benchmarks and chains have their own."""
  for _, arguments in pages.ours(page.read_text()):
    name, keys = pages.keys_given(arguments)
    plain = name and not re.search(r"[$<>*]|[A-Z]{2}|\.\.\.", name)
    own = set(changes.added(page.read_text()))
    if (
      plain
      and name.split(":")[0] not in own
      and (REPO / "configs" / name.split(":")[0]).parent.name in ("configs",)
    ):
      config_file.load(name, keys)


def test_readme_names_the_two_scripts():
  found = {w for c in pages.commands(PAGES[0].read_text()) for w in c}
  assert {"launch/demo.sh", "launch/test.sh"} <= found


@each_page
def test_files_that_pages_name_exist(page):
  text = page.read_text()
  # What a page itself adds is not there, nor what its added files name.
  own = changes.added(text)
  for added in own.values():
    text = text.replace(added, "")
  scripts = {
    w
    for words in pages.commands(text)
    for w in words
    if w.startswith("launch/") and w != "launch/"
  }
  pattern = r"\b(?:configs|emma_jax|launch|tests)/[\w/.-]*\w\.(?:py|sh)\b"
  named = scripts | set(re.findall(pattern, text))
  missing = sorted(n for n in named - set(own) if not (REPO / n).is_file())
  assert not missing, f"{page} names {missing}, which do not exist."


def test_the_tree_that_is_drawn_is_the_tree():
  """Every folder of the package, and every file that stands in none."""
  files = {str(p.relative_to(REPO)) for p in test_layout.modules()}
  folders = {f"{up}/" for path in files for up in Path(path).parents}
  alone = {path for path in files if path.count("/") == 1}
  there = folders - {"./"} | alone - {"emma_jax/__init__.py"}
  drawn = pages.tree((REPO / "docs/pages/tree.md").read_text())
  assert {p for p in drawn if p.startswith("emma_jax/")} == there


# ------------------------------------------------------------ keys in prose


def in_code(text: str) -> list[str]:
  return re.findall(r"`([^`\n]+)`", pages.prose(text))


@each_page
def test_keys_in_prose_exist(page):
  """Words such as `train.validate_every`, of a config's sections."""
  config = config_file.load("emma_4b:stage3")
  for word in in_code(page.read_text()):
    key = word.removeprefix("--").removeprefix("config.").partition("=")[0]
    known = key.partition(".")[0] in config and not key.endswith(
      (".py", ".md", ".sh", ".json", ".jsonl", ".html")
    )
    if known and re.fullmatch(r"[a-z_]+(\.[a-z_0-9]+)+", key):
      node = config
      for part in key.split("."):
        whole = isinstance(node, ml_collections.ConfigDict)
        if whole and node is config.stages and part not in node:
          break  # another stage's, or a placeholder
        assert whole and part in node, f"{page}: {word}"
        node = node[part]


def test_decisions_name_variants_that_exist():
  text = (REPO / "configs/README.md").read_text()
  names = [
    w for w in in_code(text) if re.fullmatch(r"[a-z0-9_]+:[a-z0-9_]+", w)
  ]
  names = [
    n for n in names if (REPO / f"configs/{n.split(':')[0]}.py").exists()
  ]
  assert "tiny:all_shared" in names
  for name in names:
    config_file.load(name)


# ------------------------------------------------- tables that repeat the code


def rows_of(page: str, heading: str) -> list[list[str]]:
  """Cells of the table below a heading of a page."""
  text = (REPO / "docs/pages" / page).read_text().partition(heading)[2]
  table = re.search(r"((?:^\|.*\n)+)", text, re.M)
  assert table, heading
  lines = table[1].splitlines()[2:]
  return [[c.strip() for c in line.strip("|").split("|")] for line in lines]


def test_the_glossary_has_the_letters():
  found = rows_of("glossary.md", "## Letters of axes")
  assert {k.strip("`"): v for k, v in found} == structs.AXIS_LETTERS


def test_every_dependency_has_its_licence():
  project = tomllib.loads((REPO / "pyproject.toml").read_text())["project"]
  lines = [*project["dependencies"]]
  for extra in project["optional-dependencies"].values():
    lines += extra
  names = {re.match(r"[\w.-]+", line)[0] for line in lines} - {"emma-jax"}
  found = rows_of("licences.md", "## Libraries")
  assert {row[0] for row in found} == names
  assert all(row[2] for row in found)


def test_every_benchmark_has_its_licence():
  found = rows_of("licences.md", "## Benchmarks")
  assert [tuple(row) for row in found] == [
    (s.title, s.licence) for s in sets.SETS.values()
  ]
