#!/bin/sh
# Prints where redis-server is, installing Debian's when there is none. Used by `make ci` alone: what needs it is
# marked slow.
set -eu

if command -v redis-server; then
    exit 0
fi
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    printf '%s\n' "redis-server is needed:" "  apt-get install redis-server" >&2
    exit 1
fi

export DEBIAN_FRONTEND=noninteractive
# The package would start a server of its own; the tests start theirs.
export RUNLEVEL=1
apt-get update -qq >&2
apt-get install -qq -y --no-install-recommends redis-server >&2
command -v redis-server
