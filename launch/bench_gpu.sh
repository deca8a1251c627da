#!/usr/bin/env bash
# Measures on this machine's GPU what the planner forecasts: a train step of a
# small sibling, beside it PyTorch's, and the 4B's denoising step:
#   bash launch/bench_gpu.sh [--dry-run] [--wheels DIR | --install] \
#       [--parts train torch denoise] [--profile DIR] [...]
# The rest are arguments of `emma-speed gpu`. Takes under nine minutes, with
# a line for each part as it ends. $OUT, if set, is a folder for the results.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/plan.sh"
python=${PYTHON:-python3} wheels="" install=""
for _arg do  # as in plan.sh
  shift
  case ${_next:-}$_arg in
    --wheels) _next="value:" ;;
    value:*) wheels=$_arg; _next="" ;;
    --install) install=yes ;;
    *) set -- "$@" "$_arg" ;;
  esac
done
# Nothing is installed unless asked for: a lent machine may have no network, and
# has a jax and a torch that fit its driver.
if [ -n "$install" ]; then
  if [ -z "$dry" ]; then source launch/lib.sh; fi
  run "$python" -m pip install -q -e ".[cuda,torch]"
fi
# What it lacks can be brought along as files, beside what it has.
if [ -n "$wheels" ]; then
  site=${TMPDIR:-/tmp}/emma_site
  run "$python" -m pip install -q --no-index --no-deps --upgrade \
    --target "$site" "$wheels"/*.whl
  export PYTHONPATH=$site${PYTHONPATH:+:$PYTHONPATH}
fi
if [ -z "$dry" ]; then
  lacks=$("$python" -c 'import importlib.util, sys
print(*(n for n in sys.argv[1:] if not importlib.util.find_spec(n)))' \
    absl array_record einops flax grain jax ml_collections numpy optax orbax \
    PIL rich safetensors tensorboardX)
  [ -z "$lacks" ] || { echo "$python lacks: $lacks. Give --install, --wheels" \
    "DIR with wheels of them, or another interpreter: PYTHON=..." >&2; exit 2; }
fi
run exec "$python" -m emma_jax.cli.speed gpu \
  ${OUT:+--json "$OUT/bench_gpu.json"} "$@"
