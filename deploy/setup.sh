#!/usr/bin/env bash
# Makes the virtual environment $1 with the packages of the lock file $2, each with its hash, and the project itself.
# Says in one sentence what is missing.
set -euo pipefail
venv=$1
lock=$2
log=$(mktemp)
trap 'rm -f "$log"' EXIT

python=""
for each in python3.13 python3.12 python3.11 python3; do
  if "$each" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then
    python=$each
    break
  fi
done
if [ -z "$python" ]; then
  echo "Python 3.11 or newer is missing: install it (Debian 12: apt-get install python3 python3-venv), then try again." >&2
  exit 1
fi

if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
  if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    echo "Python's venv module is missing: as root, run 'apt-get install python3-venv', then try again." >&2
    exit 1
  fi
  echo "installing Debian package: python3-venv"
  { apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -qy python3-venv; } >"$log" 2>&1 \
    || { tail -n 1 "$log" >&2; exit 1; }
fi

# one that was interrupted half-way has no pip: made anew
"$venv/bin/python" -m pip --version >/dev/null 2>&1 || "$python" -m venv --clear "$venv"
echo "installing Python packages into $venv (once)"
pip=("$venv/bin/python" -m pip -q --disable-pip-version-check)
# The lock file names every package, so pip need not resolve: older versions refuse extras (pydantic[email]) with hashes.
if ! { "${pip[@]}" install --require-hashes --no-deps -r "$lock" -r requirements-build.lock \
  && "${pip[@]}" install --no-deps --no-build-isolation -e .; } >"$log" 2>&1; then
  echo "Python packages could not be installed (is PyPI reached?). pip's last words:" >&2
  grep -v '^WARNING' "$log" | tail -n 3 >&2
  exit 1
fi
