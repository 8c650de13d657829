#!/usr/bin/env bash
# Makes the artefacts of a release in build/release, and publishes nothing. Usage: deploy/release.sh [PYTHON]
#
# It checks that all files name one version and that the changelog has it. It builds the wheel and the source archive
# from the committed files only. It writes their checksums and a statement about their origin (in-toto, SLSA provenance
# v1).
set -euo pipefail
cd "$(dirname "$0")/.."
python=${1:-python3}
version=$(sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
fail() { echo "release: $1" >&2; exit 1; }

[ -z "$(git status --porcelain)" ] || fail "the checkout has changes that are not committed; commit or remove them"
grep -q "^## $version" CHANGELOG.md || fail "CHANGELOG.md has no section '## $version'"
for file in Dockerfile docker-bake.hcl; do
  grep -q "VERSION.*$version" "$file" || fail "$file names another version than pyproject.toml ($version)"
done
deploy/pin_images.sh --check || echo "note: run 'make pin-images' where the registries are reached, and commit the digests"
if grep -q "^## $version (unreleased)" CHANGELOG.md; then echo "note: the changelog calls $version unreleased"; fi

out=build/release
rm -rf "$out" && mkdir -p "$out"
source=$(mktemp -d)
trap 'rm -rf "$source"' EXIT
commit=$(git rev-parse HEAD)
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)
export SOURCE_DATE_EPOCH  # the same commit gives the same files
git archive "$commit" | tar -x -C "$source"
echo "$commit" > "$source/remediator/build.txt"  # for --version
git archive --format=tar --prefix="remediator-$version/" "$commit" | gzip -n > "$out/remediator-$version.tar.gz"
"$python" -m pip wheel -q --no-deps --no-build-isolation -w "$out" "$source"
cp requirements.lock "$out/remediator-$version-requirements.lock"
(cd "$out" && sha256sum remediator-* > SHA256SUMS)

"$python" - "$out" "$commit" "$version" <<'END'
import json, pathlib, sys
out, commit, version = pathlib.Path(sys.argv[1]), sys.argv[2], sys.argv[3]
lines = [line.split() for line in (out / "SHA256SUMS").read_text().splitlines()]
statement = {
    "_type": "https://in-toto.io/Statement/v1",
    "subject": [{"name": name, "digest": {"sha256": digest}} for digest, name in lines],
    "predicateType": "https://slsa.dev/provenance/v1",
    "predicate": {
        "buildDefinition": {
            "buildType": "remediator/deploy/release.sh",
            "externalParameters": {"version": version},
            "resolvedDependencies": [{"name": "source", "digest": {"gitCommit": commit}}],
        },
        "runDetails": {"builder": {"id": "local"}},
    },
}
(out / "provenance.intoto.json").write_text(json.dumps(statement, indent=2) + "\n")
END
echo "remediator $version from $commit, in $out:"
(cd "$out" && ls -1)
echo "not published; sign SHA256SUMS and provenance.intoto.json with the key of the release before you do"
