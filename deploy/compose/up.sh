#!/usr/bin/env bash
# Starts the Compose stack, waits until it serves, and says how to sign in and what to try.
# usage: [CHAT_URL=https://…] deploy/compose/up.sh PERSON                       to try it: SQLite, one remediator
#        [CHAT_URL=https://…] APP_IMAGE=… deploy/compose/up.sh PERSON production   PostgreSQL, two remediators
set -euo pipefail
cd "$(dirname "$0")/../.."
stop() { echo "up.sh: $1" >&2; exit 1; }

person=${1:-} kind=${2:-}
[ -n "$person" ] || stop "name the first user of the console; example: deploy/compose/up.sh ann@example.com"
[ -z "$kind" ] || [ "$kind" = production ] || stop "unknown kind '$kind'; the only one is: production"
if docker compose version >/dev/null 2>&1; then compose=(docker compose)
elif command -v docker-compose >/dev/null; then compose=(docker-compose)
else stop "Docker Compose is not installed; install the package docker-compose-plugin (Debian: docker-compose)"; fi
host=${DOCKER_HOST:-unix:///var/run/docker.sock}
docker version >/dev/null 2>&1 || stop "no Docker Engine answers at $host; start it, or set DOCKER_HOST"
export DOCKER_SOCKET=${host#unix://}
[ -S "$DOCKER_SOCKET" ] || stop "DOCKER_HOST is '$host'; the containers need a Unix socket on this machine, for example unix:///var/run/docker.sock"
export DOCKER_GID=$(stat -c %g "$DOCKER_SOCKET")
project=(-p "${PROJECT:-remediator}" -f docker-compose.yml)
if [ "$kind" = production ]; then
  project+=(-f docker-compose.prod.yml)
  [ -n "${APP_IMAGE:-}" ] || stop "production needs APP_IMAGE, the image of the app with its tag or digest; example: APP_IMAGE=registry.example.com/app:1.0"
fi
deploy/compose/secrets.sh "$person"
"${compose[@]}" "${project[@]}" up -d # builds the images that do not exist
port=${REMEDIATOR_PORT:-8095}
for _ in $(seq 90); do
  if (exec 3<>"/dev/tcp/127.0.0.1/$port" && printf 'GET /readyz HTTP/1.0\r\n\r\n' >&3 && grep -q '^HTTP/1.1 200' <&3) 2>/dev/null; then ready=yes; break; fi
  sleep 2
done
[ -n "${ready:-}" ] || stop "the console does not answer after 3 minutes; see '${compose[*]} ${project[*]} ps' and '… logs remediator'"

cat <<TEXT

Console:  http://127.0.0.1:$port
Sign in:  as $person, with the token in deploy/compose/secrets/sign_in_token
Try it:   ${compose[*]} ${project[*]} kill redis
          In about a minute the console shows a request to restart Redis. Approve it there.
TEXT
if grep -q '\.invalid' deploy/compose/secrets/chat_url; then
  echo "Missing:  no chat is set, so no message reaches a person. Write the URL of its incoming webhook into"
  echo "          deploy/compose/secrets/chat_url, then: ${compose[*]} ${project[*]} up -d --force-recreate remediator"
fi
