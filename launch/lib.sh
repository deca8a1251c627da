# Sourced by the other scripts: makes the virtual environment, and only when
# something changed. Takes `--python X` out of the caller's arguments; PYTHON=X
# in the environment does the same. Leaves $repo, $venv and $python behind.
# A caller may set before: $flavour, the end of the environment's name; $extras
# [test]; $lowest=1 for the oldest versions that pyproject.toml admits; $every=1
# for all extras. The compilers of TPUs and of NVIDIA GPUs run without such a
# chip.
flavour=${flavour:-} extras=${extras:-test} lowest=${lowest:-}
if [ -n "${every:-}" ]; then
  flavour=all${lowest:+-lowest}
  extras=test,dev,docs,torch,tfds,fast,tpu,cuda,prep,scorers,photos
fi
repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$repo" || exit 1

_next=""
for _arg do  # the loop's list is fixed here: arguments can be put back
  shift
  case $_next$_arg in
    --python) _next="value:" ;;
    --python=*) PYTHON=${_arg#*=} ;;
    value:*) PYTHON=$_arg; _next="" ;;
    *) set -- "$@" "$_arg" ;;
  esac
done
[ -z "$_next" ] || { echo "--python needs a value: python3.12" >&2; exit 2; }

# All interpreters of a name, a path or a version. A version manager may put a
# stand-in first that refuses to start, so what stands behind it counts too.
_interpreters() {
  local name=$1 file
  case $name in [0-9]*) name=python$name ;; esac
  if [ "${name#*/}" != "$name" ]; then echo "$name"; return; fi
  type -aP "$name" || true
  for file in "${PYENV_ROOT:-$HOME/.pyenv}"/versions/*/bin/"$name"; do
    if [ -x "$file" ]; then echo "$file"; fi
  done
}

# Prints the first interpreter that is new enough and can make environments.
_find_python() {
  local file name bare=""
  while IFS= read -r file; do
    # 3.11: the oldest Python for which the supported jax is released.
    "$file" -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
      >/dev/null 2>&1 || continue
    if "$file" -c 'import ensurepip, venv' >/dev/null 2>&1; then
      echo "$file"; return
    fi
    bare=$file
  done < <(for name in "$@"; do _interpreters "$name"; done)
  if [ -n "$bare" ]; then
    echo "$bare lacks the modules venv and ensurepip; install them (on" \
      "Debian and Ubuntu: the package python3-venv)," >&2
  else
    echo "No working Python 3.11 or newer among: $*. Install one," >&2
  fi
  echo "or name another interpreter: --python /path/to/python3" >&2
  return 1
}

# What an environment is made from. Another interpreter or a moved folder asks
# for a new one (line 1), other packages for pip to run again (line 2).
_fingerprint() {
  "$1" -c 'import hashlib, os, sys
base = os.path.realpath(sys._base_executable)
print(sys.version.split()[0], base, sys.argv[1])
wanted = open("pyproject.toml", "rb").read() + sys.argv[2].encode()
print(hashlib.sha256(wanted).hexdigest())' "$venv" "$extras $lowest"
}

# Every lower bound of pyproject.toml as an exact version.
_lower_bounds() {
  "$python" - <<'END'
import re, tomllib
project = tomllib.load(open("pyproject.toml", "rb"))["project"]
extras = project["optional-dependencies"].values()
for line in [*project["dependencies"], *(x for e in extras for x in e)]:
  found = re.match(r"([\w.-]+)(?:\[[\w,]*\])?>=([\w.]+)", line)
  if found:
    print(f"{found[1]}=={found[2]}")
END
}

_pip() {
  local options=()
  if [ -n "$lowest" ]; then
    _lower_bounds >"$venv/lowest.txt" || return 1
    options=(-c "$venv/lowest.txt")
  fi
  # By itself and first: with a range, pip would look for newer builds of many
  # gigabytes, for packages that only ask for some torch.
  case ,$extras, in *,torch,*)
    "$python" -m pip install "torch==$(_lower_bounds |
      sed -n 's/^torch==//p')" || return 1 ;;
  esac
  "$python" -m pip install -e ".[$extras]" ${options[@]+"${options[@]}"}
}

_install() {
  local base=$1 want start=$SECONDS log="$venv/install.log"
  want=$(_fingerprint "$base") || return 1
  [ "$(cat "$venv/stamp" 2>/dev/null)" != "$want" ] || return 0
  if [ "$(head -n 1 "$venv/stamp" 2>/dev/null)" != "${want%%$'\n'*}" ]; then
    echo "Making the environment ${venv#"$repo"/} with $base"
    rm -rf "$venv" && "$base" -m venv "$venv" || return 1
  fi
  echo "Installing the package and what it needs (log: $log)"
  # [test] in every script, so that none undoes what another installed.
  if ! _pip >"$log" 2>&1; then
    rm -f "$venv/stamp"  # half an environment is not built upon
    tail -n 25 "$log" >&2
    echo "pip failed; its whole log is $log" >&2
    return 1
  fi
  echo "$want" >"$venv/stamp"
  echo "Installed in $((SECONDS - start)) s"
}

if [ -n "${PYTHON:-}" ]; then
  _base=$(_find_python "$PYTHON") || exit 1
  # A folder of its own, so that trying a Python leaves the default one alone.
  venv=.venv-$("$_base" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
else
  _base=$(_find_python python3 python python3.{11,12,13,14}) || exit 1
  venv=.venv
fi
venv="$repo/$venv${flavour:+-$flavour}"
python="$venv/bin/python"
# Of two scripts started at once, the second waits for the first to install.
(if command -v flock >/dev/null; then flock 9; fi; _install "$_base") \
  9>"$venv.lock" || exit 1
