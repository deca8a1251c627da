"""Laws of the tree: who imports whom, examples run, scripts parse."""

import ast
from collections.abc import Iterator
import dataclasses
import doctest
import fnmatch
import graphlib
import importlib.util
import inspect
from pathlib import Path
import re
import subprocess
import sys
import tomllib

import pytest

from tests import conftest

REPO = Path(__file__).resolve().parent.parent
PACKAGE = REPO / "emma_jax"

# Floor by floor: a module imports from lower floors, and from its own room. A
# room may have parts on lower floors, which are named with their room: whoever
# reads a saved config needs its keys and sizes, not what makes runs of it.
FLOORS = (
  ("streams",),
  (
    "assets",
    "batches",
    "exits",
    "files",
    "planner.chip_table",
    "processes",
    "ranges",
    "rules",
    "seeds",
    "stats",
    "structs",
    "terminal",
    "xla_flags",
  ),
  ("leases", "paired", "program_files", "provenance", "storage"),
  ("build.sections", "checkpoints.renamed_keys", "judge", "locks", "programs"),
  ("scorers",),
  ("flow", "models", "pages", "world"),
  ("build.model",),
  ("data.pictures", "data.text"),
  ("data.transforms",),
  ("data.records",),
  ("data.batching", "data.ingest"),
  ("data.loading",),
  ("data.curation",),
  (
    *("convert", "distributed", "flops", "losses", "optimizer"),
    *("planner.chips", "sharding"),
  ),
  ("checkpoints",),
  ("sampling", "supervise", "training"),
  ("build",),
  ("api", "evals", "planner"),
  ("benchmarks", "speed"),
  ("cli",),
  ("__main__",),  # starts any command
  # Opens what is asked of it, when `load` is called; nobody imports it.
  ("__init__",),
)
LEVELS = {room: n for n, floor in enumerate(FLOORS) for room in floor}
TORCH = {"accelerate", "diffusers", "torch", "torchvision", "transformers"}


def modules() -> list[Path]:
  return sorted(PACKAGE.rglob("*.py"))


def name_of(path: Path) -> str:
  """emma_jax/data/batching/packing.py -> emma_jax.data.batching.packing"""
  parts = path.relative_to(REPO).with_suffix("").parts
  return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def unit_of(name: str) -> str:
  """emma_jax.models.llm -> models; emma_jax.data.text.chat -> data.text"""
  room, inner, *_ = [*name.split(".")[1:], "__init__", "__init__"]
  if f"{room}.{inner}" in LEVELS:
    return f"{room}.{inner}"
  return "__init__" if room == "data" else room


def imports(path: Path) -> Iterator[str]:
  """Full names of what a file imports, at the top, in functions, relative."""
  package = path.relative_to(REPO).parent.parts
  for node in ast.walk(ast.parse(path.read_text())):
    if isinstance(node, ast.Import):
      yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
      up = package[: len(package) - node.level + 1] if node.level else ()
      base = ".".join([*up, *filter(None, [node.module])])
      yield from (f"{base}.{alias.name}" for alias in node.names)


def own_imports(path: Path) -> Iterator[str]:
  for name in imports(path):
    if name.split(".")[0] == "emma_jax" and name != "emma_jax.__version__":
      yield name


def top_imports(paths: list[Path]) -> set[str]:
  return {name.split(".")[0] for path in paths for name in imports(path)}


def test_imports_point_down():
  wrong = []
  for path in modules():
    source = unit_of(name_of(path))
    assert source in LEVELS, f"{path}: give {source!r} a level in LEVELS."
    for name in own_imports(path):
      target = unit_of(name)
      if source != target and LEVELS.get(target, 99) >= LEVELS[source]:
        wrong.append(f"{name_of(path)} imports {name}")
  assert not wrong, "\n".join(wrong)


def test_no_file_imports_itself_by_way_of_others():
  files = {name_of(path): path for path in modules()}

  def file_of(name: str) -> str:
    while name not in files:  # down to the module that a name is of
      name = name.rpartition(".")[0]
    return name

  graph = {
    name: set(map(file_of, own_imports(path))) - {name}
    for name, path in files.items()
  }
  try:
    graphlib.TopologicalSorter(graph).prepare()
  except graphlib.CycleError as error:
    pytest.fail("A circle of imports: " + " <- ".join(error.args[1]))


@pytest.mark.parametrize(
  "unit, allowed",
  [
    ("models", {"structs", "rules", "models"}),
    (
      "data",
      {
        *("structs", "rules", "data", "world", "flow", "processes", "files"),
        *("judge", "scorers", "exits", "locks", "ranges", "storage"),
      },
    ),
    ("world", {"structs", "world"}),
  ],
)
def test_models_data_and_world_keep_apart(unit: str, allowed: set[str]):
  for path in sorted((PACKAGE / unit).rglob("*.py")):
    used = {unit_of(name).partition(".")[0] for name in own_imports(path)}
    assert used <= allowed, f"{name_of(path)} imports {sorted(used - allowed)}"


def test_nothing_imports_configs_and_configs_import_arithmetic_alone():
  """Of ours, how a batch is spread over devices: before the first step the same
  rules are applied to what rows really hold."""
  assert "configs" not in top_imports(modules())
  files = sorted((REPO / "configs").rglob("*.py"))
  known = {"configs", "ml_collections", "emma_jax"}
  extra = top_imports(files) - set(sys.stdlib_module_names) - known
  assert not extra, f"configs import {sorted(extra)}"
  assert {n for path in files for n in own_imports(path)} == {
    "emma_jax.batches"
  }
  arithmetic = top_imports([PACKAGE / "batches.py"])
  assert arithmetic <= set(sys.stdlib_module_names)


def test_only_converters_and_speed_name_torch():
  apart = ("convert", "speed")
  core = [p for p in modules() if unit_of(name_of(p)) not in apart]
  assert not top_imports(core) & TORCH


def test_importing_everything_leaves_torch_alone_and_starts_no_backend():
  """`--help` must cost neither a huge import nor a grabbed accelerator."""
  # The exported PyTorch code is copied, and PyTorch's side of a timing
  # imported, in a process of its own. The builders are imported where
  # TensorFlow Datasets is installed.
  apart = {
    "__main__",
    "emma_torch",
    "torch_model",
    "torch_step",
    "torch_measure",
    "tfds_builders",
  }
  names = [name_of(p) for p in modules() if not apart & {p.stem, p.parent.name}]
  program = f"""
import importlib, sys
for name in {names}: importlib.import_module(name)
assert not set(sys.modules) & {TORCH}, "torch was imported"
from jax._src import xla_bridge
assert not xla_bridge._backends, "a device was opened while importing"
"""
  subprocess.run([sys.executable, "-c", program], cwd=REPO, check=True)


def test_scoring_needs_no_jax():
  """Judging, aggregating and golden cases run where there is no accelerator."""
  names = [
    name_of(path)
    for path in (
      *sorted((PACKAGE / "benchmarks" / "scoring").rglob("*.py")),
      PACKAGE / "benchmarks" / "cases.py",
      *sorted((PACKAGE / "cli" / "benchmark").glob("*.py")),
    )
    if path.stem != "__main__"
  ]
  program = f"""
import importlib, sys
for name in {names}: importlib.import_module(name)
assert not set(sys.modules) & {{"jax", "flax", "torch"}}, "no pure Python"
"""
  subprocess.run([sys.executable, "-c", program], cwd=REPO, check=True)


def test_dependencies_are_imported_and_imports_are_dependencies():
  project = tomllib.loads((REPO / "pyproject.toml").read_text())["project"]
  declared = {re.split(r"[<>=\[]", d)[0] for d in project["dependencies"]}
  modules_of = {
    "absl-py": "absl",
    "array-record": "array_record",
    "ml-collections": "ml_collections",
    "orbax-checkpoint": "orbax",
    "pillow": "PIL",
  }
  needed = {modules_of.get(name, name) for name in declared}
  paths = modules() + sorted((REPO / "configs").rglob("*.py"))
  used = top_imports(paths) - set(sys.stdlib_module_names)
  used -= TORCH | {"configs", "emma_jax"}
  # Optional: the extras "qwen", "data", "tfds", "prep" and "fast".
  used -= {"apache_beam", "tokenizers", "pyarrow", "tensorflow_datasets"}
  used -= {"cv2", "simplejpeg"}
  # Toolkits, where their users have them.
  used -= {"lmms_eval", "mlflow", "openpyxl", "vlmeval", "wandb"}
  assert used == needed, (
    f"imported but not declared: {sorted(used - needed)}; "
    f"declared but not imported: {sorted(needed - used)}"
  )


def test_console_scripts_exist():
  project = tomllib.loads((REPO / "pyproject.toml").read_text())["project"]
  for target in project["scripts"].values():
    module, function = target.split(":")
    assert callable(getattr(importlib.import_module(module), function))


def test_smoke_tests_touch_every_room():
  """`launch/test.sh --smoke` is for changes anywhere."""
  tests = REPO / "tests"
  # What has no tests of its own: weights are data, structs go through all.
  rooms = set(LEVELS) - {"__init__", "__main__", "assets", "structs"}
  # Files of rooms that are looked at as a whole.
  rooms -= {"build.model", "build.sections", "checkpoints.renamed_keys"}
  for room in sorted(rooms):
    place = room.replace(".", "/")
    files = [
      *(tests / place).rglob("test_*.py"),
      *tests.glob(f"**/test_{room.rpartition('.')[2]}.py"),
    ]
    assert any("mark.smoke" in p.read_text() for p in files if p.is_file()), (
      f"No test of {room} is marked `smoke`."
    )


# ------------------------------------------------------------------ examples


def with_examples() -> list[str]:
  return [name_of(p) for p in modules() if ">>> " in p.read_text()]


@pytest.mark.smoke
@pytest.mark.parametrize("name", with_examples())
def test_examples_in_docstrings_hold(name: str):
  flags = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
  result = doctest.testmod(importlib.import_module(name), optionflags=flags)
  assert result.attempted and not result.failed


def test_every_public_transform_has_an_example():
  module = importlib.import_module("emma_jax.data.transforms")
  transforms = [
    value
    for key, value in vars(module).items()
    if inspect.isclass(value)
    and value.__module__ == module.__name__
    and not key.startswith("_")
    and "__call__" in vars(value)
  ]
  assert transforms
  for transform in transforms:
    assert dataclasses.is_dataclass(transform), f"{transform} is no dataclass"
    assert ">>> " in (transform.__doc__ or ""), f"{transform}: no example"


# ------------------------------------------------------------------ scripts


@pytest.mark.parametrize("path", sorted((REPO / "launch").glob("*.sh")))
def test_launch_scripts_parse_and_run_modules_that_exist(path: Path):
  subprocess.run(["bash", "-n", path], check=True)
  for name in re.findall(r"-m (emma_jax[\w.]*)", path.read_text()):
    assert importlib.util.find_spec(name), f"{path}: no module {name}"
  for name in re.findall(r"\bconfigs/\w+\.py", path.read_text()):
    assert (REPO / name).is_file(), f"{path}: no file {name}"


def test_no_folder_of_tests_is_left_out(request):
  """pytest has names of folders that it does not enter, such as "build"."""
  patterns = request.config.getini("norecursedirs")
  folders = {
    folder
    for path in (REPO / "tests").rglob("test_*.py")
    for folder in path.relative_to(REPO).parent.parts
  }
  assert {"build", "tests"} <= folders
  left = [f for f in folders for p in patterns if fnmatch.fnmatch(f, p)]
  assert not left, f"pytest does not enter {left}"


def test_the_longest_test_files_exist():
  for name in conftest.LONGEST:
    assert (REPO / "tests" / name).is_file(), name
