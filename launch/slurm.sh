#!/usr/bin/env bash
# Trains on GPUs under SLURM, a process a GPU:
#   sbatch --nodes 2 launch/slurm.sh --config configs/emma_4b.py --workdir runs/s1
#   bash launch/slurm.sh --dry-run --config ...     # prints what would run
# The working folder must be on a file system that all nodes share. EMMA_PYTHON
# names the interpreter [.venv/bin/python], EMMA_CHIP the GPU [h100].
#SBATCH --job-name=emma
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=8
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=12
# Everyone gets SIGTERM so many seconds before the end, and saves.
#SBATCH --signal=TERM@300
# A requeued job continues by itself; its log goes on in the same file.
#SBATCH --requeue
#SBATCH --open-mode=append
set -euo pipefail
# SLURM runs a copy of this file; the folder is the one sbatch was called in.
cd "${SLURM_SUBMIT_DIR:-$(dirname "${BASH_SOURCE[0]}")/..}"
source launch/plan.sh
python=${EMMA_PYTHON:-.venv/bin/python} chip=${EMMA_CHIP:-h100}
if [ -n "$dry" ]; then run eval "\$($python -m emma_jax.xla_flags $chip)"
else eval "$("$python" -m emma_jax.xla_flags "$chip")"; fi
code=0
for try in 1 2 3 4 5; do
  # --kill-on-bad-exit: one dead process ends all of the step, with all that
  # they started. Who the others are, jax reads from SLURM's variables.
  run srun --kill-on-bad-exit=1 "$python" -m emma_jax.cli.train "$@" && exit 0
  code=$?
  case $code in
    # The same again would end alike: emma_jax/exits.py, FINAL.
    2 | 65 | 66 | 71 | 73 | 76) exit "$code" ;;
    75) break ;;  # asked to stop, and saved
  esac
  echo "try $try ended with $code; all processes start again together." >&2
  sleep $((10 * try))  # a port or a file system may need a moment
done
[ "$code" = 75 ] || exit "$code"
run scontrol requeue "$SLURM_JOB_ID"
