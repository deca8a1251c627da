"""The notebook of the Python interface runs, and is small."""

from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[2]
NOTEBOOK = REPO / "docs" / "notebooks" / "python.ipynb"
MOST_BYTES = 150_000


def said(cell) -> str:
  """Its texts, without pictures."""
  texts = [o.get("text") or o["data"]["text/plain"] for o in cell.outputs]
  return "".join(texts)


@pytest.mark.slow
def test_it_runs_and_says_what_it_shows(monkeypatch):
  nbformat = pytest.importorskip("nbformat")
  nbclient = pytest.importorskip("nbclient")
  pytest.importorskip("ipykernel")
  assert NOTEBOOK.stat().st_size < MOST_BYTES
  # Its own, and kept: most of a first run is compiling.
  monkeypatch.setenv("EMMA_CACHE", str(REPO / ".cache" / "notebook"))
  monkeypatch.setenv("PYTHONPATH", str(REPO))
  shown = nbformat.read(NOTEBOOK, as_version=4)
  again = nbformat.read(NOTEBOOK, as_version=4)
  client = nbclient.NotebookClient(
    again,
    timeout=600,
    kernel_name="python3",
    resources={"metadata": {"path": str(REPO)}},
  )
  client.execute()
  for old, new in zip(shown.cells, again.cells):
    if old.cell_type == "code":
      assert old.outputs, f"Not run: {old.source}"
      assert said(new) == said(old)
