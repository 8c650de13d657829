#!/usr/bin/env bash
# For machines that reach no image registry: stand-ins for the published images, made of Debian's own packages, under
# the published names and tags, and then our two images on top. Where images can be pulled, this is not needed.
#
# The versions are Debian 12's, not those that the tags say; Grafana, which Debian does not have, is a page that answers
# its health check and nothing more. Root on Debian; needs debootstrap, a Docker Engine (DOCKER_HOST) and Debian's mirror.
#
# usage: demo/compose/build_fake_images.sh [FOLDER]      FOLDER keeps the root file system for the next time
set -euo pipefail
cd "$(dirname "$0")/../.."
folder=${1:-$(mktemp -d)}
root=$folder/base
packages=ca-certificates,redis-server,prometheus,prometheus-alertmanager,prometheus-redis-exporter
packages=$packages,prometheus-node-exporter,nginx-light,python3,python3-venv,postgresql,busybox-static
base=stand-in/debian:12

if ! docker image inspect "$base" >/dev/null 2>&1; then
  [ -d "$root/usr/bin" ] || debootstrap --variant=minbase --include="$packages" bookworm "$root" >"$folder.log" 2>&1 \
    || { tail -n 3 "$folder.log" >&2; exit 1; }
  cp /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/ca-certificates.crt" # what this host trusts
  ln -sf busybox "$root/bin/wget"
  tar -C "$root" --exclude=./var/cache/apt --exclude=./var/lib/apt/lists --exclude=./usr/share/doc -c . \
    | docker import --change 'CMD ["sh"]' - "$base" >/dev/null
fi

image() { # NAME:TAG, lines of a Dockerfile on standard input
  docker image inspect "$1" >/dev/null 2>&1 && return
  { echo "FROM $base"; cat; } | DOCKER_BUILDKIT=${DOCKER_BUILDKIT:-0} docker build --quiet --network none --tag "$1" - >/dev/null
  echo "stand-in: $1"
}

image python:3.11.11-slim-bookworm <<'D'
CMD ["python3"]
D
image redis:7.2.5-bookworm <<'D'
RUN mkdir -p /data && chown 999:999 /data
VOLUME /data
WORKDIR /data
CMD ["redis-server"]
D
image prom/prometheus:v2.53.0 <<'D'
RUN mkdir -p /prometheus && chown 65534:65534 /prometheus
ENTRYPOINT ["/usr/bin/prometheus"]
D
image prom/alertmanager:v0.27.0 <<'D'
RUN mkdir -p /alertmanager && chown 65534:65534 /alertmanager
ENTRYPOINT ["/usr/bin/prometheus-alertmanager"]
D
image oliver006/redis_exporter:v1.61.0-alpine <<'D'
ENTRYPOINT ["/usr/bin/prometheus-redis-exporter"]
D
image prom/node-exporter:v1.8.1 <<'D'
ENTRYPOINT ["/usr/bin/prometheus-node-exporter"]
D
image nginxinc/nginx-unprivileged:1.27.0-alpine <<'D'
RUN mkdir -p /var/lib/nginx && chown 101:101 /var/lib/nginx
CMD ["nginx", "-g", "daemon off;"]
D
image postgres:16.3-bookworm <<'D'
RUN mkdir -p /var/lib/postgresql/data && chown 999:999 /var/lib/postgresql/data
CMD ["/usr/lib/postgresql/15/bin/postgres"]
D
image grafana/grafana:11.1.0 <<'D'
RUN mkdir -p /var/lib/grafana /srv/api && echo ok > /srv/api/health && chown 472:472 /var/lib/grafana
CMD ["python3", "-m", "http.server", "--directory", "/srv", "3000"]
D

build() { DOCKER_BUILDKIT=${DOCKER_BUILDKIT:-0} docker build --quiet --network host "$@" . >/dev/null; }
build --tag remediator:0.1.0
echo "built: remediator:0.1.0"
for release in 1.0 1.1-crash 1.2 1.3-errors; do # in this order: the host knows releases by when they were built
  build --tag "remediator-app:$release" --build-arg "RELEASE=$release" --file app/Dockerfile
  echo "built: remediator-app:$release"
done
