#!/bin/sh
# What the tests need from the system. As root on Debian or Ubuntu it is installed; otherwise the line to run is printed,
# and the tests that need what is missing are skipped, which CI=1 forbids.
# usage: system_packages.sh [long]     (long: also what only the long tests need)
set -eu

missing=
need() { # package, and a path or a program that shows it is there
    for sign in $2; do
        if [ -e "$sign" ] || command -v "$sign" >/dev/null 2>&1; then return; fi
    done
    missing="$missing $1"
}
need postgresql "/usr/lib/postgresql/*/bin/initdb"
need pgbouncer /usr/sbin/pgbouncer
need nginx nginx
need wrk wrk
need binutils objdump
need chromium-headless-shell chromium-headless-shell
[ "${1:-}" != long ] || need npm npm
if [ -x /usr/bin/python3.11 ]; then
    /usr/bin/python3.11 -c 'import ensurepip' 2>/dev/null || missing="$missing python3.11-venv"
    need libpython3.11 "/usr/lib/*/libpython3.11.so.1.0"
fi
[ -n "$missing" ] || exit 0

if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    export DEBIAN_FRONTEND=noninteractive
    # shellcheck disable=SC2086
    apt-get install -y -qq --no-install-recommends $missing >/dev/null 2>&1 ||
        { apt-get update -qq && apt-get install -y -qq --no-install-recommends $missing >/dev/null; }
    exit 0
fi
echo "Some tests are skipped without these packages:  sudo apt-get install$missing" >&2
[ -z "${CI:-}" ] || exit 1
