# Sourced by the scripts beside it: a virtual environment with the package in it.
# shellcheck shell=bash

ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
PYTHON="$ROOT/.venv/bin/python"
STAMP="$ROOT/.venv/bragg_numba.stamp"

say() { printf '%s\n' "$*" >&2; }

is_new_enough() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
}

find_python() {
    local name
    for name in "${BRAGG_PYTHON:-python3}" python3.13 python3.12 python3.11 python3.14; do
        if command -v "$name" >/dev/null && is_new_enough "$name"; then
            printf '%s\n' "$name"
            return
        fi
    done
    say "error: Python 3.11 or newer is needed, and python3 is $(python3 --version 2>&1 || echo missing)." \
        "Install one, or name it: BRAGG_PYTHON=/path/to/python3 ${0##*/}"
    return 1
}

make_environment() {
    local python
    python="$(find_python)" || exit 1
    say "making .venv with $("$python" --version)"
    rm -rf "$ROOT/.venv"
    if ! "$python" -m venv "$ROOT/.venv" >&2; then
        rm -rf "$ROOT/.venv"
        say "error: $python cannot make a virtual environment (on Debian and Ubuntu: apt install python3-venv)"
        exit 1
    fi
}

# What must be installed anew when it changes. The stamp names the place too: an environment does not survive a move.
wanted_stamp() {
    "$PYTHON" - "$ROOT" <<'PY'
import hashlib, pathlib, sys

root = pathlib.Path(sys.argv[1])
digest = hashlib.sha256(str(root).encode())
for name in ("setup.cfg", "pyproject.toml"):
    digest.update((root / name).read_bytes())
print(digest.hexdigest())
PY
}

# has_extras STAMP EXTRAS: whether what was installed last has them, EXTRAS being a,b.
has_extras() {
    local stamp extras one
    { read -r stamp extras <"$STAMP"; } 2>/dev/null || return 1
    [ "$stamp" = "$1" ] || return 1
    for one in ${2//,/ }; do
        case ",$extras," in *",$one,"*) ;; *) return 1 ;; esac
    done
}

# set_up [test]: after it $PYTHON has the package, with the packages of the test extra if asked for.
set_up() {
    local extra="${1:-}" stamp
    { [ -x "$PYTHON" ] && is_new_enough "$PYTHON"; } || make_environment
    stamp="$(wanted_stamp)"
    # An environment with more extras also serves those who need fewer.
    if ! has_extras "$stamp" "$extra"; then
        say "installing bragg_numba${extra:+ with its $extra extra} into .venv"
        rm -f "$STAMP"
        if ! "$PYTHON" -m pip install --quiet --quiet --disable-pip-version-check -e "$ROOT${extra:+[$extra]}" >&2; then
            say "error: pip could not install the package; its own message stands above"
            exit 1
        fi
        printf '%s\n' "$stamp $extra" >"$STAMP"
    fi
    cd "$ROOT" || exit 1
}
