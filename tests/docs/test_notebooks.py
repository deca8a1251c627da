"""The notebooks of the documentation run, and print what they show."""

import pytest

from tests.docs import pages

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")
pytest.importorskip("ipykernel")

NOTEBOOKS = sorted((pages.REPO / "docs").rglob("*.ipynb"))
MOST_BYTES = 150_000


def said(cell) -> str:
  """Its texts, without pictures and what libraries say."""
  texts = [
    output.get("text") or output["data"]["text/plain"]
    for output in cell.outputs
    if output.get("name") != "stderr" or "note:" in output["text"]
  ]
  return "".join(texts)


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_print_what_they_show(path, monkeypatch):
  assert path.stat().st_size < MOST_BYTES
  # Of the tests, and kept: most of a first run is compiling.
  monkeypatch.setenv("EMMA_CACHE", str(pages.REPO / ".cache" / "notebook"))
  monkeypatch.setenv("PYTHONPATH", str(pages.REPO))
  shown = nbformat.read(path, as_version=4)
  again = nbformat.read(path, as_version=4)
  client = nbclient.NotebookClient(
    again,
    timeout=600,
    kernel_name="python3",
    resources={"metadata": {"path": str(pages.REPO)}},
  )
  client.execute()  # raises where a cell does
  for old, new in zip(shown.cells, again.cells):
    if old.cell_type == "code":
      assert said(new) == said(old), old.source
  assert any(
    "image/png" in output.get("data", {})
    for cell in shown.cells
    for output in cell.get("outputs", [])
  )


def test_there_are_two():
  assert {path.stem for path in NOTEBOOKS} == {"inside_a_batch", "python"}
