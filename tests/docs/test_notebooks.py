"""The notebooks of the documentation run, and print what they show."""

import pytest

from tests.docs import pages

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")
pytest.importorskip("ipykernel")

NOTEBOOKS = sorted((pages.REPO / "docs").rglob("*.ipynb"))


def printed(notebook) -> list[str]:
  """What its cells print, one after the other."""
  return [
    output["text"]
    for cell in notebook.cells
    for output in cell.get("outputs", [])
    if output["output_type"] == "stream" and output["name"] == "stdout"
  ]


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_print_what_they_show(path, tmp_path):
  shown = nbformat.read(path, as_version=4)
  again = nbformat.read(path, as_version=4)
  client = nbclient.NotebookClient(
    again, timeout=600, resources={"metadata": {"path": str(tmp_path)}}
  )
  client.execute()  # raises where a cell does
  assert printed(again) == printed(shown)
  assert any(
    "image/png" in output.get("data", {})
    for cell in shown.cells
    for output in cell.get("outputs", [])
  )
