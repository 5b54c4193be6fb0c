#!/bin/sh
# Makes .venv hold exactly what requirements/dev.txt locks, and this checkout on top of it.
# Run by `make setup`. Needs a Python of 3.11 or newer and nothing else: uv comes out of the lock as well.
#
#   PYTHON=/path/to/python make setup     picks the interpreter instead of looking for one
set -eu
cd "$(dirname "$0")/.."

say() { printf '%s\n' "$*" >&2; }

fail() {
    say ""
    say "make setup: $*"
    exit 1
}

new_enough() {
    # A version manager's shim may exist without a Python behind it, so the candidate is run, not only found.
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1
}

# The first candidate that can also make a complete environment; else the first that is new enough.
find_python() {
    fallback=
    for candidate in ${PYTHON:-python3.13 python3.12 python3.11 python3 python3.14}; do
        new_enough "$candidate" || continue
        if "$candidate" -c 'import ensurepip, venv' >/dev/null 2>&1; then
            printf '%s' "$candidate"
            return
        fi
        fallback=${fallback:-$candidate}
    done
    printf '%s' "$fallback"
}

explain_missing_python() {
    found=$("${PYTHON:-python3}" --version 2>/dev/null || printf 'no %s' "${PYTHON:-python3}")
    fail "Python 3.11 or newer is needed (found: $found).
  Debian, Ubuntu:  apt-get install python3 python3-venv
  elsewhere:       install one, then  PYTHON=/path/to/python3 make setup"
}

explain_missing_pip() {
    version=$("$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    fail "$1 can neither make an environment with pip (its ensurepip is missing) nor has a pip of its own.
  Debian, Ubuntu:  apt-get install python$version-venv"
}

create_environment() {
    python=$(find_python)
    [ -n "$python" ] || explain_missing_python
    say "Creating .venv with $("$python" --version)"
    rm -rf .venv
    if "$python" -c 'import ensurepip' >/dev/null 2>&1; then
        "$python" -m venv .venv
    elif "$python" -m pip --version >/dev/null 2>&1; then
        # Debian splits ensurepip off, but the machine's own pip can install into an environment without one.
        "$python" -m venv --without-pip .venv
    else
        explain_missing_pip "$python"
    fi
    # An environment does not survive being moved: its scripts and the editable install hold absolute paths.
    pwd > .venv/.checkout
    printf '%s' "$python" > .venv/.made-with
}

install_uv() {
    if .venv/bin/python -m pip --version >/dev/null 2>&1; then
        set -- .venv/bin/python -m pip
    else
        set -- "$(cat .venv/.made-with)" -m pip --python .venv/bin/python
    fi
    "$@" install --quiet --disable-pip-version-check --no-cache-dir --require-hashes -r requirements/uv.txt
}

if ! new_enough .venv/bin/python || [ "$(cat .venv/.checkout 2>/dev/null || pwd)" != "$(pwd)" ]; then
    create_environment
fi
locked_uv=$(sed -n 's/^uv==\([^ ]*\).*/\1/p' requirements/uv.txt)
case "$(.venv/bin/uv --version 2>/dev/null || true)" in
    "uv $locked_uv" | "uv $locked_uv "*) ;;
    *)
        say "Installing uv $locked_uv"
        install_uv
        ;;
esac

# Service accounts often have a home that does not exist or is not theirs.
if [ -z "${UV_CACHE_DIR:-}" ] && ! mkdir -p "${XDG_CACHE_HOME:-${HOME:-/nonexistent}/.cache}/uv" 2>/dev/null; then
    UV_CACHE_DIR=$(pwd)/.venv/.uv-cache
    export UV_CACHE_DIR
fi
export UV_PYTHON_DOWNLOADS=never
# A second file system between cache and checkout is no reason for a warning.
export UV_LINK_MODE="${UV_LINK_MODE:-copy}"

say "Installing the locked packages"
# Whoever watches sees uv's progress; a log gets the two lines around it.
[ -t 2 ] && quiet= || quiet=--quiet
.venv/bin/uv pip sync $quiet --python .venv/bin/python --require-hashes requirements/dev.txt
.venv/bin/uv pip install --quiet --python .venv/bin/python --no-deps --no-build-isolation --editable .
say "Ready: .venv/bin/millstream"
