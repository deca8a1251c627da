"""Makes goldens anew: python -m tests.goldens [family ...]; see __init__.py."""

import argparse
import importlib
import os
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")

from tests.goldens import store

FOLDER = Path(__file__).resolve().parent
APART = ("__init__", "__main__", "store")


def families() -> list[str]:
  return sorted(p.stem for p in FOLDER.glob("*.py") if p.stem not in APART)


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("family", nargs="*", help=f"of: {', '.join(families())}")
  args = parser.parse_args()
  for unknown in set(args.family) - set(families()):
    parser.error(f"no family {unknown!r}; choose of {', '.join(families())}.")
  for name in args.family or families():
    try:
      module = importlib.import_module(f"tests.goldens.{name}")
      cases = module.cases()
    except ImportError as error:
      if args.family:
        raise
      print(f"{name}: left as it is, {error}")
      continue
    path = store.write(name, cases, getattr(module, "KEPT", store.KEPT))
    print(f"{name}: {len(cases)} cases, {path.stat().st_size} bytes")


if __name__ == "__main__":
  main()
