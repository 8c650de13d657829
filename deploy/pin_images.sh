#!/usr/bin/env bash
# Pins the published images by digest, in place: redis:7.2.16-bookworm becomes redis:7.2.16-bookworm@sha256:… in the
# Compose files, the manifests and the Dockerfiles. It pulls each tag, so it needs an engine that reaches the registries.
# Run it again to use what the tags name now: a tag is rebuilt when its base image gets fixes. Then look at the diff.
# usage: deploy/pin_images.sh            pin all images
#        deploy/pin_images.sh --check    list the images without a digest; status 1 if there are some
set -euo pipefail
cd "$(dirname "$0")/.."
stop() { echo "pin_images.sh: $1" >&2; exit 1; }
case ${1:-} in
  ""|--check) ;;
  *) echo "usage: $0 [--check]" >&2; exit 2 ;;
esac

files=(docker-compose.yml docker-compose.prod.yml Dockerfile app/Dockerfile deploy/kubernetes/backup.yaml)
files+=(deploy/kubernetes/remediator/*.yaml deploy/kubernetes/shop/*.yaml)
digest='(@sha256:[0-9a-f]{64})?'
# name:tag behind "image:" or an argument of a Dockerfile; the project's own images have no tag here, or a variable
mapfile -t images < <(sed -nE "s/^ *(- )?(image: |ARG [A-Z]+_IMAGE=)([a-z0-9][a-z0-9._\/-]*:[A-Za-z0-9][A-Za-z0-9._-]*$digest)\$/\3/p" \
  "${files[@]}" | sort -u)
[ ${#images[@]} -gt 0 ] || stop "no image found in ${files[*]}"

if [ "${1:-}" = --check ]; then
  found=0
  for image in "${images[@]}"; do
    case $image in *@*) ;; *) echo "no digest: $image"; found=1 ;; esac
  done
  exit $found
fi

command -v docker >/dev/null || stop "docker is not installed; install docker.io or docker-ce"
docker version >/dev/null 2>&1 || stop "no Docker Engine answers at ${DOCKER_HOST:-unix:///var/run/docker.sock}; start it, or set DOCKER_HOST"
expressions=()
for image in "${images[@]}"; do
  tagged=${image%@*}
  docker pull --quiet "$tagged" >/dev/null 2>&1 \
    || stop "$tagged cannot be pulled; nothing was changed. Does this engine reach the registry, and does the tag exist?"
  pinned=$(docker image inspect --format '{{range .RepoDigests}}{{println .}}{{end}}' "$tagged" | grep -oE '@sha256:[0-9a-f]{64}$' | head -n 1) \
    || stop "the engine knows no digest of $tagged; nothing was changed. A substitute of 'make images' has none: remove it, and pull"
  expressions+=(-e "s#([ =])${tagged//./\\.}$digest\$#\1$tagged$pinned#")
  echo "$tagged$pinned"
done
sed -i -E "${expressions[@]}" "${files[@]}" # all or none: written after the last digest is known
