# Sourced by the scripts that start clusters. Takes --dry-run out of the
# caller's arguments: `run` then prints a command instead of running it, so that
# what a script would do can be read (and is tested) without a cluster.
dry=""
for _arg do  # the loop's list is fixed here: arguments can be put back
  shift
  case $_arg in
    --dry-run) dry=yes ;;
    *) set -- "$@" "$_arg" ;;
  esac
done
repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$repo" || exit 1

run() {
  if [ -z "$dry" ]; then "$@"; return; fi
  printf '%q ' "$@"; echo
}

# need NAME...: each must have been given as --NAME.
need() {
  for _arg do
    [ -n "${!_arg:-}" ] || { echo "--$_arg is missing; see $0" >&2; exit 2; }
  done
}

# Options into variables of the same name; what follows -- is left in "$rest".
options() {
  rest=()
  while [ $# -gt 0 ]; do
    case $1 in
      --) shift; rest=("$@"); return ;;
      --spot) spot=yes ;;
      --*) [ $# -gt 1 ] || { echo "$1 needs a value" >&2; exit 2; }
        printf -v "${1#--}" %s "$2"; shift ;;
      *) echo "unknown argument $1; see $0" >&2; exit 2 ;;
    esac
    shift
  done
}
