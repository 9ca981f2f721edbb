#!/bin/sh
# Makes .venv from a lock file, or leaves it alone when it already has what that file asks for.
# usage: make_venv.sh requirements.lock | requirements-dev.lock
set -eu

lock=$1
stamp=.venv/made-from
wanted=$(cat requirements.lock requirements-dev.lock | sha256sum | cut -d' ' -f1)

identity='import sys; print(sys.version, sys.base_prefix)'
if [ -n "${PYTHON:-}" ] && [ -x .venv/bin/python ] &&
    [ "$(.venv/bin/python -c "$identity" 2>/dev/null)" != "$("$PYTHON" -c "$identity")" ]; then
    rm -rf .venv
fi
if [ -x .venv/bin/python ] && .venv/bin/python -c '' 2>/dev/null && [ -f $stamp ]; then
    read -r had from <"$stamp"
    if [ "$had" = "$wanted" ] && { [ "$from" = requirements-dev.lock ] || [ "$from" = "$lock" ]; }; then
        exit 0
    fi
else
    python=$(sh build/find_python.sh)
    echo "making .venv with $python ($("$python" -V))"
    [ -x .venv/bin/python ] && .venv/bin/python -c '' 2>/dev/null || "$python" -m venv --clear .venv
fi
.venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r "$lock"
echo "$wanted $lock" >$stamp
