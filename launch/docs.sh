#!/usr/bin/env bash
# Builds the documentation, and fails where it is wrong:
#   bash launch/docs.sh [--serve] [--no-run] [--all] [--python python3.12]
# Links that lead nowhere, commands, flags, files and config keys that do not
# exist, then the commands that pages mark are run (--no-run leaves that out).
# The pages then lie in .cache/docs; --serve shows them while they are written.
# --all uses the environment of `test.sh --all`.
set -euo pipefail
flavour=docs extras=test,docs run=1 serve="" every=""
for _arg do
  shift
  case $_arg in
    --no-run) run="" ;;
    --serve) serve=1 ;;
    --all) every=1 ;;
    *) set -- "$@" "$_arg" ;;
  esac
done
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
[ $# -eq 0 ] || { echo "docs.sh does not know: $*" >&2; exit 2; }

export JAX_PLATFORMS="${JAX_PLATFORMS:-cpu}" NO_MKDOCS_2_WARNING=1
mkdocs=("$venv/bin/mkdocs")
if [ -n "$serve" ]; then
  exec "${mkdocs[@]}" serve -f docs/mkdocs.yml
fi
echo "== links, commands, flags, files and keys"
"$python" -m pytest -q -n 0 tests/test_docs.py
echo "== build"
"${mkdocs[@]}" build -q --strict -f docs/mkdocs.yml
if [ -n "$run" ]; then
  echo "== marked commands"
  "$python" -m tests.docs
fi
echo "The documentation is $repo/.cache/docs/index.html"
