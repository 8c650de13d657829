#!/usr/bin/env bash
# Prints the Secrets of deploy/kubernetes with new random passwords, tokens and keys. PERSON is the first user, with all
# permissions. CHAT_URL is the incoming webhook of your chat; without it, no message reaches a person.
# usage: CHAT_URL=https://chat.example.com/hooks/… deploy/kubernetes/secrets.sh PERSON | kubectl create -f -
set -euo pipefail
person=${1:-}
if [[ ! $person =~ ^[A-Za-z0-9._%+@-]+$ ]]; then
  echo "usage: CHAT_URL=https://… $0 PERSON | kubectl create -f -      PERSON is your ID, for example ann@example.com" >&2
  exit 2
fi
chat=${CHAT_URL:-https://chat.invalid/replace-this-url}
if [[ ! $chat =~ ^https?://[^[:space:]\"\\]+$ ]]; then
  echo "invalid CHAT_URL '$chat'; example: https://chat.example.com/hooks/abc" >&2
  exit 2
fi
random() { head -c 32 /dev/urandom | od -An -v -tx1 | tr -d ' \n'; }
redis=$(random) owner=$(random) service=$(random) files=$(random) token=$(random)
cat <<YAML
apiVersion: v1
kind: Secret
metadata: {name: redis, namespace: shop}
stringData:
  redis-password: "$redis"
  redis-auth: "requirepass $redis"
  redis-exporter: '{"redis://redis:6379": "$redis"}'
---
apiVersion: v1
kind: Secret
metadata: {name: redis-files, namespace: shop}
stringData:
  token: "$files"
---
apiVersion: v1
kind: Secret
metadata: {name: postgres, namespace: remediator}
stringData:
  superuser-password: "$(random)"
  owner-password: "$owner"
  service-password: "$service"
  owner-url: "postgresql://remediator_owner:$owner@postgres/remediator"
---
apiVersion: v1
kind: Secret
metadata: {name: remediator, namespace: remediator}
stringData:
  redis-password: "$redis"
  redis-files-token: "$files"
  postgres-url: "postgresql://remediator_service:$service@postgres/remediator"
  webhook-token: "$(random)"
  links-key: "$(random)"
  audit-key: "$(random)"
  chat-url: "$chat"
  people.yaml: |
    apiVersion: remediator/v1
    kind: People
    people:
      $person:
        roles: [admin]
        tokens: [$(printf %s "$token" | sha256sum | cut -d' ' -f1)]
YAML
echo "sign in to the console as $person with this token, which is shown only now: $token" >&2
[ -n "${CHAT_URL:-}" ] || echo "no CHAT_URL: no message reaches a person until you replace chat-url in the Secret remediator" >&2
