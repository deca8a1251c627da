#!/usr/bin/env bash
# What the machines say of the code, before any test: lint, format, types and
# the laws of the tree; zero findings. In an environment of its own:
#   bash launch/check.sh [--fix] [--python python3.12] [--all]
# --fix mends what ruff can mend; --all uses the environment of `test.sh --all`.
set -euo pipefail
flavour=check extras=test,dev fix=""
for _arg do
  shift
  case $_arg in
    --fix) fix=1 ;;
    --all) every=1 ;;
    *) set -- "$@" "$_arg" ;;
  esac
done
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
[ $# -eq 0 ] || { echo "check.sh does not know: $*" >&2; exit 2; }

failed=0
step() {
  echo "== $1"
  shift
  "$@" || failed=1
}
bin="$venv/bin"
if [ -n "$fix" ]; then
  "$bin/ruff" check --fix-only --quiet . && "$bin/ruff" format --quiet .
fi
step "ruff check" "$bin/ruff" check .
step "ruff format" "$bin/ruff" format --check .
step "mypy" "$bin/mypy"
export JAX_PLATFORMS="${JAX_PLATFORMS:-cpu}"
step "layout" "$python" -m pytest -q -n 0 tests/test_layout.py
exit "$failed"
