# Sourced by scripts/test after _setup.sh: environments beside .venv, in .cache/.
# shellcheck shell=bash

# fresh_environment NAME: an empty environment, whose interpreter is then $PYTHON.
fresh_environment() {
    local python folder="$ROOT/.cache/$1"
    python="$(find_python)" || exit 1
    rm -rf "$folder"
    mkdir -p "$ROOT/.cache"
    "$python" -m venv "$folder" >&2 || { say "error: $python cannot make a virtual environment"; exit 1; }
    PYTHON="$folder/bin/python"
}

install() {
    if ! "$PYTHON" -m pip install --quiet --disable-pip-version-check "$@" >&2; then
        say "error: pip could not install what was asked for; its own message stands above"
        exit 1
    fi
}

# stamped NAME: whether .cache/NAME was made from these files of requirements; $PYTHON is then its interpreter.
stamped() {
    local python="$ROOT/.cache/$1/bin/python"
    [ -x "$python" ] && [ "$(cat "$ROOT/.cache/$1/stamp" 2>/dev/null)" = "$(PYTHON="$python" wanted_stamp)" ] && PYTHON="$python"
}

# set_up_versions oldest|newest: $PYTHON has this checkout on those versions of its dependencies.
set_up_versions() {
    # The newest are fetched anew: tomorrow they are others.
    if [ "$1" = newest ] || ! stamped "$1"; then
        say "making .cache/$1 with the $1 versions that setup.cfg allows"
        fresh_environment "$1"
        "$PYTHON" "$ROOT/scripts/pinned_requirements.py" "--$1" test cluster >"$ROOT/.cache/$1/requirements.txt"
        install --requirement "$ROOT/.cache/$1/requirements.txt"
        install --no-deps --editable "$ROOT"
        wanted_stamp >"$ROOT/.cache/$1/stamp"
    fi
    "$PYTHON" -c 'from bragg_numba.versions import versions; print(versions())' >&2
    cd "$ROOT" || exit 1
}

# set_up_wheel: $PYTHON has the wheel and what tests need, and the working folder holds the tests without the sources.
set_up_wheel() {
    say "making .cache/wheel, with nothing but the wheel and the test extra"
    fresh_environment wheel
    local folder="$ROOT/.cache/wheel"
    # From a copy: setuptools puts into a wheel whatever an earlier one has left in build/.
    mkdir -p "$folder/src" "$folder/away"
    cp -R "$ROOT"/{bragg_numba,kernels,setup.cfg,pyproject.toml,MANIFEST.in,README.md,LICENSE} "$folder/src"
    "$PYTHON" -m pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir "$folder/dist" "$folder/src" >&2
    rm -r "$folder/src"
    local wheels=("$folder/dist"/*.whl)
    install "${wheels[0]}[test]"
    cp -R "$ROOT/tests" "$ROOT/examples" "$ROOT/pyproject.toml" "$folder/away"
    [ ! -d "$ROOT/../shared" ] || ln -sfn "$(cd "$ROOT/../shared" && pwd)" "$folder/shared"
    cd "$folder/away" || exit 1
    # What stands below this folder must not be what is imported.
    "$PYTHON" - "$folder" <<'PY'
import pathlib, sys
import bragg_numba, bragg_numba.kernels

for module in (bragg_numba, bragg_numba.kernels):
    assert pathlib.Path(module.__file__).is_relative_to(pathlib.Path(sys.argv[1]).resolve()), module.__file__
print(f"testing {pathlib.Path(bragg_numba.__file__).parent}", file=sys.stderr)
PY
}
