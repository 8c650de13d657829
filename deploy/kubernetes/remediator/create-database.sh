#!/usr/bin/env bash
# Creates the role and the database of the remediator at the first start of PostgreSQL. The role is not a superuser.
# The password goes by a variable of psql, so that no quote in it can end the statement.
set -euo pipefail
psql --quiet --set ON_ERROR_STOP=1 --username "${POSTGRES_USER:-postgres}" --dbname postgres \
  --set "password=$(cat "$DATABASE_PASSWORD_FILE")" <<'SQL'
CREATE ROLE remediator LOGIN PASSWORD :'password';
CREATE DATABASE remediator OWNER remediator ENCODING 'UTF8' TEMPLATE template0;
REVOKE ALL ON DATABASE remediator FROM PUBLIC;
SQL
