#!/usr/bin/env bash
# Makes the secrets of the Compose stack, once: files for the containers, in a folder that other users cannot enter.
# PERSON is the first user of the console, with all permissions. CHAT_URL is the incoming webhook of your chat; without it,
# no message reaches a person. Existing files are kept.
# usage: CHAT_URL=https://chat.example.com/hooks/… deploy/compose/secrets.sh PERSON [FOLDER]
set -euo pipefail
person=${1:-}
if [[ ! $person =~ ^[A-Za-z0-9._%+@-]+$ ]]; then
  echo "usage: CHAT_URL=https://… $0 PERSON [FOLDER]      PERSON is your ID, for example ann@example.com" >&2
  exit 2
fi
folder=${2:-$(dirname "$0")/secrets}
mkdir -p "$folder"
chmod 700 "$folder"
random() { head -c 24 /dev/urandom | base64 | tr -d '/+=\n'; }
make() { [ -s "$folder/$1" ] || printf '%s' "$2" >"$folder/$1"; }
make redis_password "$(random)"
make webhook_token "$(random)"
make grafana_password "$(random)"
make postgres_password "$(random)"
make owner_password "$(random)"
make service_password "$(random)"
make sign_in_token "$(random)"
make redis_auth "requirepass $(cat "$folder/redis_password")
"
make redis_exporter "{\"redis://redis:6379\": \"$(cat "$folder/redis_password")\"}"
make postgres_owner_url "postgresql://remediator_owner:$(cat "$folder/owner_password")@postgres/remediator"
make postgres_url "postgresql://remediator_service:$(cat "$folder/service_password")@postgres/remediator"
make chat_url "${CHAT_URL:-https://chat.invalid/replace-this-url}"
make people.yaml "apiVersion: remediator/v1
kind: People
people:
  $person:
    roles: [admin]
    tokens: [$(sha256sum <"$folder/sign_in_token" | cut -d' ' -f1)]
"
chmod 444 "$folder"/*
