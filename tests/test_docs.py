"""What the pages in Markdown name is there: files, headings, keys, variants."""

from pathlib import Path
import re

import ml_collections
import pytest

from emma_jax.build import config_file

REPO = Path(__file__).resolve().parent.parent
FOLDERS = ("configs", "emma_jax", "launch", "tests")
PAGES = [
  REPO / "README.md",
  *(page for name in FOLDERS for page in sorted((REPO / name).rglob("*.md"))),
]


def prose(page: Path) -> str:
  """A page without its blocks of code."""
  return re.sub(r"^```.*?^```", "", page.read_text(), flags=re.M | re.S)


def anchors(page: Path) -> set[str]:
  """Addresses of a page's headings, as GitHub makes them."""
  headings = re.findall(r"^#+ (.*)", prose(page), re.M)
  plain = [re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings]
  return {heading.replace(" ", "-") for heading in plain}


def test_headings_have_the_addresses_of_github(tmp_path):
  page = tmp_path / "a.md"
  page.write_text("# A `b` c\n```\n# no\n```\n## Servers, and what\n")
  assert anchors(page) == {"a-b-c", "servers-and-what"}


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(REPO)))
def test_links_lead_somewhere(page):
  for link in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
    if "://" in link:
      continue
    name, _, anchor = link.partition("#")
    other = page.parent / name if name else page
    assert other.exists(), f"{page}: {link}"
    assert not anchor or anchor in anchors(other), f"{page}: {link}"


def decided() -> list[str]:
  """Words in code of the page on what was decided."""
  return re.findall(r"`([^`\n]+)`", (REPO / "configs/README.md").read_text())


def test_decisions_name_keys_that_exist():
  config = config_file.load("emma_4b:stage3")
  keys = [w for w in decided() if re.fullmatch(r"[a-z_]+(\.[a-z_0-9]+)+", w)]
  keys = [k for k in keys if k.partition(".")[0] in config]
  assert len(keys) > 10
  for key in keys:
    node = config
    for part in key.split("."):
      assert isinstance(node, ml_collections.ConfigDict) and part in node, key
      node = node[part]


def test_decisions_name_variants_that_exist():
  names = [w for w in decided() if re.fullmatch(r"[a-z0-9_]+:[a-z0-9_]+", w)]
  names = [
    n for n in names if (REPO / f"configs/{n.split(':')[0]}.py").exists()
  ]
  assert "tiny:all_shared" in names
  for name in names:
    config_file.load(name)
