#!/bin/sh
# Resolves pyproject.toml into the hashed requirements files. Run by `make lock`; arguments go to uv (--upgrade,
# --upgrade-package NAME). Without them, what is locked stays where pyproject.toml still allows it.
#
# No file may name where packages come from: machines with a mirror of their own use the same lock.
set -eu
cd "$(dirname "$0")/.."

resolve() {
    output=$1
    shift
    .venv/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
        --no-header --no-annotate --no-emit-index-url --no-emit-find-links "$@" --output-file "$output" >/dev/null
}

resolve requirements/dev.txt pyproject.toml --extra server --extra redis --extra otel --group dev "$@"
# The smaller two are cut from the same versions, so that what is tested is what is deployed.
resolve requirements/server.txt pyproject.toml --extra server --constraints requirements/dev.txt "$@"
grep '^uv==' requirements/dev.txt | sed 's/ .*//' | resolve requirements/uv.txt - --constraints requirements/dev.txt
