#!/usr/bin/env bash
# Builds all images of the stack on a machine that reaches no image registry. Substitutes for the published images are
# made of Debian's packages, under the published names and tags. The project's own images are built on top of them.
#
# The versions are Debian 12's, not those of the tags. Grafana, which Debian does not have, is a page that answers its
# health check and nothing more.
#
# usage: demo/compose/build_fake_images.sh [FOLDER]      FOLDER keeps the root file system for the next time
set -euo pipefail
cd "$(dirname "$0")/../.."

stop() { echo "build_fake_images.sh: $1" >&2; exit 1; }
for program in docker debootstrap tar; do
  command -v "$program" >/dev/null || stop "$program is not installed; run 'apt-get install docker.io debootstrap tar'"
done
docker version >/dev/null 2>&1 || stop "no Docker Engine answers at ${DOCKER_HOST:-unix:///var/run/docker.sock}; start it, or set DOCKER_HOST"
[ "$(id -u)" = 0 ] || stop "debootstrap needs root; run this command as root"

folder=${1:-$(mktemp -d)}
mkdir -p "$folder"
root=$folder/base
log=$folder/build.log
packages=ca-certificates,redis-server,redis-tools,prometheus,prometheus-alertmanager,prometheus-redis-exporter
packages=$packages,prometheus-node-exporter,nginx-light,python3,python3-venv,postgresql,busybox-static
base=stand-in/debian:12

failed() { tail -n 5 "$log" >&2; stop "$1; the whole log: $log"; }

if ! docker image inspect "$base" >/dev/null 2>&1; then
  if [ ! -e "$root/.complete" ]; then
    echo "downloading Debian packages (about 3 minutes)"
    rm -rf "$root"
    debootstrap --variant=minbase --include="$packages" bookworm "$root" >"$log" 2>&1 \
      || failed "debootstrap cannot build the root file system (does this machine reach Debian's mirror?)"
    touch "$root/.complete"
  fi
  cp /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/ca-certificates.crt" # the authorities that this host trusts
  ln -sf busybox "$root/bin/wget"
  tar -C "$root" --exclude=./var/cache/apt --exclude=./var/lib/apt/lists --exclude=./usr/share/doc -c . \
    | docker import --change 'CMD ["sh"]' - "$base" >/dev/null
fi

image() { # NAME:TAG, lines of a Dockerfile on standard input
  if docker image inspect "$1" >/dev/null 2>&1; then return; fi
  { echo "FROM $base"; cat; } | DOCKER_BUILDKIT=${DOCKER_BUILDKIT:-0} docker build --network none --tag "$1" --file - \
    demo/compose/stand_ins >"$log" 2>&1 || failed "the substitute for $1 cannot be built"
  echo "substitute: $1"
}

image busybox:1 <<'D'
CMD ["sh"]
D
# The lock file is for Python 3.11.3 or newer, and Debian 12 has 3.11.2. With 3.11.2, redis requires one more package,
# but asyncio has the part that it uses. The lock file is complete, so that pip need not look for dependencies.
image python:3.11.15-slim-bookworm <<'D'
RUN mkdir /usr/local/lib/later && echo 'from asyncio import timeout' > /usr/local/lib/later/async_timeout.py
ENV PIP_NO_DEPS=1 PYTHONPATH=/usr/local/lib/later
CMD ["python3"]
D
image redis:7.2.16-bookworm <<'D'
RUN mkdir -p /data && chown 999:999 /data && cp /usr/bin/redis-check-rdb /usr/local/bin/redis-server
VOLUME /data
WORKDIR /data
CMD ["redis-server"]
D
image prom/prometheus:v3.15.0 <<'D'
RUN mkdir -p /prometheus && chown 65534:65534 /prometheus
ENTRYPOINT ["/usr/bin/prometheus"]
D
image prom/alertmanager:v0.34.1 <<'D'
RUN mkdir -p /alertmanager && chown 65534:65534 /alertmanager
ENTRYPOINT ["/usr/bin/prometheus-alertmanager"]
D
image oliver006/redis_exporter:v1.89.0-alpine <<'D'
ENTRYPOINT ["/usr/bin/prometheus-redis-exporter"]
D
image prom/node-exporter:v1.12.1 <<'D'
ENTRYPOINT ["/usr/bin/prometheus-node-exporter"]
D
image nginxinc/nginx-unprivileged:1.30.4-alpine <<'D'
RUN mkdir -p /var/lib/nginx && chown 101:101 /var/lib/nginx
CMD ["nginx", "-g", "daemon off;"]
D
image postgres:16.15-bookworm <<'D'
RUN usermod --non-unique --uid 999 postgres && groupmod --non-unique --gid 999 postgres \
 && mkdir -p /var/lib/postgresql/data /docker-entrypoint-initdb.d && chown -R 999:999 /var/lib/postgresql
COPY postgres_entrypoint.sh /usr/local/bin/docker-entrypoint.sh
ENV PATH=/usr/lib/postgresql/15/bin:/usr/local/bin:/usr/bin:/bin PGDATA=/var/lib/postgresql/data
VOLUME /var/lib/postgresql/data
STOPSIGNAL SIGINT
ENTRYPOINT ["docker-entrypoint.sh"]
CMD ["postgres"]
D
image grafana/grafana:13.3.0 <<'D'
RUN mkdir -p /var/lib/grafana /srv/api && echo ok > /srv/api/health && chown 472:472 /var/lib/grafana
CMD ["python3", "-m", "http.server", "--directory", "/srv", "3000"]
D

build() { # NAME:TAG, further arguments of docker build
  DOCKER_BUILDKIT=${DOCKER_BUILDKIT:-0} docker build --network host --tag "$@" . >"$log" 2>&1 \
    || failed "$1 cannot be built (does this machine reach PyPI?)"
  echo "built: $1"
}
build remediator:0.1.0
for release in 1.0 1.1-crash 1.2 1.3-errors; do # in this order: the host knows releases by when they were built
  build "remediator-app:$release" --build-arg "RELEASE=$release" --file app/Dockerfile
done
