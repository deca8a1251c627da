#!/usr/bin/env bash
# Trains in GKE through JobSet, one slice or several, v4 to tpu7x:
#   bash launch/gke.sh --name emma --image IMAGE --chip v5p --topology 4x4x4 \
#       --claim SHARED [--slices 2] [--queue Q] -- \
#       --config configs/emma_4b.py --workdir /shared/run1
# IMAGE holds this package with [tpu]; SHARED is a volume claim (Filestore,
# a bucket) that all hosts mount at /shared. --dry-run prints the manifest.
# A cluster with TPU node pools, JobSet and Kueue is what Google's Cluster
# Toolkit makes (its `gcluster job submit` fills in a manifest like ours).
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/plan.sh"
slices=1 queue="" max_restarts=20
options "$@"
need name image chip topology claim rest
# GKE's name of the chip, on the label of its node pools.
case $chip in
  v4) pool=tpu-v4-podslice ;;
  v5e) pool=tpu-v5-lite-podslice ;;
  v5p) pool=tpu-v5p-slice ;;
  v6e) pool=tpu-v6e-slice ;;
  tpu7x) pool=tpu7x ;;
  *) echo "--chip $chip: choose v4, v5e, v5p, v6e or tpu7x" >&2; exit 2 ;;
esac
chips=$((${topology//x/*}))
# Slices of several hosts have four chips in each.
hosts=$(( chips > 4 ? chips / 4 : 1 ))
printf -v words ' %q' "${rest[@]}"
# The words stand in a YAML string, and in sed: both want \ and " told apart.
words=${words//\\/\\\\}; words=${words//\"/\\\"}
literal() { printf %s "$1" | sed 's/[\\&|]/\\&/g'; }
manifest=$(sed -e "/^#/d" -e "s|@name|$name|" -e "s|@image|$(literal "$image")|" \
  -e "s|@pool|$pool|" -e "s|@topology|$topology|" -e "s|@slices|$slices|" \
  -e "s|@hosts|$hosts|" -e "s|@chips|$((chips / hosts))|" -e "s|@claim|$claim|" \
  -e "s|@chip|$chip|" -e "s|@restarts|$max_restarts|" \
  -e "s|@words|$(literal "$words")|" \
  -e "$([ -n "$queue" ] && echo "s|@queue|$queue|" || echo /@queue/d)" \
  launch/jobset.yaml)
if [ -n "$dry" ]; then echo "$manifest"; exit; fi
kubectl apply -f - <<<"$manifest"
echo "Follow: kubectl logs -f -l jobset.sigs.k8s.io/jobset-name=$name"
