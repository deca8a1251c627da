"""Lists the commands; `python -m emma_jax sample draw ...` is `emma-sample`."""

import ast
import importlib
import pathlib
import sys

from emma_jax import __version__

_CLI = pathlib.Path(__file__).parent / "cli"


def commands() -> dict[str, str]:
  """NAME of emma-NAME, which is emma_jax.cli.NAME -> what it is for.

  Without importing one: those that have a console script's name and beginning,
  which developers' commands lack.
  """
  out = {}
  for file in sorted([*_CLI.glob("*.py"), *_CLI.glob("*/__init__.py")]):
    text = file.read_text("utf-8")
    name = file.parent.name if file.name == "__init__.py" else file.stem
    if "\ndef entry(" in text and f'"emma-{name}"' in text:
      doc = ast.get_docstring(ast.parse(text)) or ""
      out[name] = doc.partition("\n")[0]
  return out


def listing() -> str:
  """What there is, a line each."""
  lines = [f"emma_jax {__version__}: EMMA (arXiv 2512.04810) in JAX", ""]
  lines += [f"  emma-{name:12}{text}" for name, text in commands().items()]
  return "\n".join(
    [
      *lines,
      "",
      "emma-NAME --help says more; python -m emma_jax NAME ... is the same.",
      'In Python: emma_jax.load("reference").draw("a red star")',
    ]
  )


def main(argv: list[str] | None = None) -> int:
  """Runs a command by its name, or lists all; returns an exit code."""
  argv = list(sys.argv[1:] if argv is None else argv)
  name = argv[0].removeprefix("emma-") if argv else "--help"
  if name in ("-h", "--help", "help"):
    print(listing())
    return 0
  if name in ("-V", "--version"):
    print(__version__)
    return 0
  if name not in commands():
    print(f"error: no command {name}.\n\n{listing()}", file=sys.stderr)
    return 2
  module = importlib.import_module(f"emma_jax.cli.{name}")
  sys.argv = [f"emma-{name}", *argv[1:]]
  module.entry()  # ends the process as the console script does
  return 0


if __name__ == "__main__":
  sys.exit(main())
