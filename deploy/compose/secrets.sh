#!/usr/bin/env bash
# Makes the secrets of the Compose stack, once: files that containers get to read, in a folder that others cannot enter.
# usage: deploy/compose/secrets.sh [FOLDER]
set -euo pipefail
folder=${1:-$(dirname "$0")/secrets}
mkdir -p "$folder"
chmod 700 "$folder"
random() { head -c 24 /dev/urandom | base64 | tr -d '/+=\n'; }
make() { [ -s "$folder/$1" ] || printf '%s' "$2" >"$folder/$1"; }
make redis_password "$(random)"
make webhook_token "$(random)"
make grafana_password "$(random)"
make postgres_password "$(random)"
make redis_auth "requirepass $(cat "$folder/redis_password")
"
make redis_exporter "{\"redis://redis:6379\": \"$(cat "$folder/redis_password")\"}"
make postgres_url "postgresql://remediator:$(cat "$folder/postgres_password")@postgres/remediator"
chmod 444 "$folder"/*
