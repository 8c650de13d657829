#!/usr/bin/env bash
# Dumps the database once a day, checks the dump, and keeps the newest ones. It ends on SIGTERM.
# Connection: PGHOST, PGUSER, PGDATABASE; the password is in PASSWORD_FILE. FOLDER, EVERY (default 1d), KEEP (default 7).
set -uo pipefail
trap 'exit 0' TERM INT
folder=${FOLDER:?the folder of the dumps}
PGPASSWORD=$(cat "${PASSWORD_FILE:?the file with the password}") || exit 1
export PGPASSWORD
while true; do
  file=$folder/remediator-$(date -u +%Y-%m-%dT%H%M%SZ).dump
  # a dump gets its name only when it is complete and readable
  if pg_dump --format=custom --file="$file.part" && pg_restore --list "$file.part" >/dev/null && mv "$file.part" "$file"; then
    echo "backup written: $file"
    find "$folder" -maxdepth 1 -name 'remediator-*.dump' | sort -r | tail -n +$((${KEEP:-7} + 1)) | xargs -r rm --
  else
    rm -f "$file.part"
    echo "backup failed, the next try is in ${EVERY:-1d}" >&2
  fi
  sleep "${EVERY:-1d}" &
  wait $!
done
