#!/usr/bin/env bash
# Trains on Cloud TPU machines of one's own, v4 to v6e, one slice or several
# (newer chips exist in GKE only: launch/gke.sh):
#   where="--name emma --project P --zone us-east5-a"
#   bash launch/tpu_vm.sh create $where --type v5p-128 --chip v5p [--slices 2] [--spot]
#   bash launch/tpu_vm.sh setup $where --bucket B   # once they are ACTIVE
#   bash launch/tpu_vm.sh train $where --chip v5p -- \
#       --config configs/emma_4b.py --workdir /mnt/emma/run1
#   bash launch/tpu_vm.sh delete $where             # ends the bill
# --dry-run prints the commands. `train` again continues the run.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/plan.sh"
what=${1:-}
case $what in
  create | setup | train | delete) shift ;;
  *) sed -n '2,11s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2; exit 2 ;;
esac
spot="" slices=1
options "$@"
need name project zone
at=(--project "$project" --zone "$zone")
tpus=(gcloud compute tpus queued-resources)
everywhere() {  # the same command on every host of every slice, at once
  run "${tpus[@]}" ssh "$name" "${at[@]}" --node=all --worker=all --command="$1"
}
case $what in
  create)
    need type chip
    # The system image that knows the chip's driver.
    case $chip in
      v4) image=tpu-ubuntu2204-base ;;
      v5e) image=v2-alpha-tpuv5-lite ;;
      v5p) image=v2-alpha-tpuv5 ;;
      v6e) image=v2-alpha-tpuv6e ;;
      *) echo "--chip $chip: choose v4, v5e, v5p or v6e" >&2; exit 2 ;;
    esac
    # Slices are requested together: they train together or not at all.
    nodes=(--node-id "$name")
    [ "$slices" = 1 ] || nodes=(--node-count "$slices" --node-prefix "$name")
    run "${tpus[@]}" create "$name" "${at[@]}" "${nodes[@]}" \
      --accelerator-type "$type" --runtime-version "$image" ${spot:+--spot}
    run "${tpus[@]}" describe "$name" "${at[@]}" ;;  # until it says ACTIVE
  setup)
    need bucket
    tar=${TMPDIR:-/tmp}/emma.tar.gz
    run git archive -o "$tar" HEAD  # what is committed, and nothing else
    run "${tpus[@]}" scp "$tar" "$name": "${at[@]}" --node=all --worker=all
    # uv: the images' own Python is older than 3.11. [tpu] brings the libtpu
    # that belongs to the jax it installs.
    everywhere 'mkdir -p emma && tar xzf emma.tar.gz -C emma && cd emma &&
      curl -LsSf https://astral.sh/uv/install.sh | sh &&
      ~/.local/bin/uv venv --python 3.12 .venv &&
      ~/.local/bin/uv pip install --python .venv/bin/python -e .[tpu]'
    # Checkpoints need a folder that all hosts share. Give the bucket a
    # hierarchical namespace: there, renaming (the commit) is atomic.
    everywhere "sudo mkdir -p /mnt/emma && sudo chown \$USER /mnt/emma &&
      (mountpoint -q /mnt/emma || gcsfuse --implicit-dirs $bucket /mnt/emma)" ;;
  train)
    need chip rest
    # --distributed on: these machines know each other by metadata only. A dead
    # host ends the others' processes; each supervisor starts its own anew.
    printf -v words ' %q' "${rest[@]}"
    everywhere "cd emma && eval \"\$(.venv/bin/python -m emma_jax.xla_flags $chip)\" &&
      .venv/bin/python -m emma_jax.supervise -- \
      .venv/bin/python -m emma_jax.cli.train --distributed on$words" ;;
  delete)
    # --force: the machines too, not only the request for them.
    run "${tpus[@]}" delete "$name" "${at[@]}" --force --quiet ;;
esac
