#!/usr/bin/env bash
# From nothing to a tiny EMMA that understands, draws and edits:
#   bash launch/demo.sh [--python python3.12] [--config.seed=1 ...]
# Trains about 10 minutes on 2 cores, then grades it beside the reference model.
# Ctrl-C saves and leaves; the same command goes on from there.
set -euo pipefail
start=$SECONDS
cat <<'END'
Trains a tiny EMMA from nothing through the paper's six stages, on the CPU: to
answer questions about pictures, to draw and to edit them. On 2 cores about 10
minutes of training and 4 of scoring; 3 GB of memory, 300 MB of disk; and the
first time some minutes to install. After each stage runs/demo/stages.png shows
the same prompts. Ctrl-C saves and leaves; the same command goes on from there.
END
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

workdir=runs/demo
# A CPU run unless said otherwise: its numbers are the ones in the README.
export JAX_PLATFORMS="${JAX_PLATFORMS:-cpu}"
# Large pages spare the kernel much work on XLA's buffers: a step takes 0.17 s
# instead of 0.21. Other C libraries ignore it.
export GLIBC_TUNABLES="${GLIBC_TUNABLES:-glibc.malloc.hugetlb=1}"
# In the background, so that this shell can pass signals on while it waits;
# `trap - INT` because a shell starts its background commands deaf to Ctrl-C.
(trap - INT; exec "$python" -m emma_jax.cli.train \
  --config configs/tiny.py --workdir "$workdir" "$@") &
child=$!
trap : INT  # the terminal sends Ctrl-C to Python too; wait until it has saved
trap 'kill -TERM "$child"' TERM
code=0
wait "$child" || code=$?
# A signal ends `wait` but not Python.
while kill -0 "$child" 2>/dev/null; do code=0; wait "$child" || code=$?; done

echo
if [ "$code" -ne 0 ]; then
  echo "Stopped (exit code $code); the same command goes on from there."
  exit "$code"
fi
if [ ! -f "$workdir/report.html" ]; then
  echo "Stopped and saved; the same command goes on from there."
  exit 0
fi
elapsed=$((SECONDS - start))
python=${python#"$repo"/}
cat <<END
Report: $repo/$workdir/report.html
Scores: $repo/$workdir/scores.json
Sheet:  $repo/$workdir/stages.png
        the same prompts after each stage, and the shipped model's in the last
        column: of the same size, trained six times as long
Took $((elapsed / 60)) min $((elapsed % 60)) s, installation included.

To try next:
  $python -m emma_jax.cli.sample draw --checkpoint $workdir \\
      --prompt "a red star and a blue square" --out star.png
  $python -m emma_jax.cli.sample edit --checkpoint $workdir \\
      --image star.png --instruction "make the star green" --out green.png
  $python -m emma_jax.cli.sample ask --checkpoint $workdir \\
      --image green.png --question "what colour is the star?"
  $python -m emma_jax.cli.evaluate --checkpoint $workdir --quick
  $python -m emma_jax.cli.train --config configs/tiny.py:token_fusion \\
      --workdir runs/token_fusion --max_steps 100
END
