#!/usr/bin/env bash
# Creates the database of the remediator and its two roles at the first start of PostgreSQL. Neither is a superuser.
# remediator_owner owns the tables: migrations and backups use it. remediator_service is the role of the service. The
# command "db grant" gives it the rights that it needs: it can append to the audit log but not change it.
# The passwords go by variables of psql, so that no quote in them can end the statement.
set -euo pipefail
psql --quiet --set ON_ERROR_STOP=1 --username "${POSTGRES_USER:-postgres}" --dbname postgres \
  --set "owner=$(cat "$OWNER_PASSWORD_FILE")" --set "service=$(cat "$SERVICE_PASSWORD_FILE")" <<'SQL'
CREATE ROLE remediator_owner LOGIN PASSWORD :'owner';
CREATE ROLE remediator_service LOGIN PASSWORD :'service';
CREATE DATABASE remediator OWNER remediator_owner ENCODING 'UTF8' TEMPLATE template0;
REVOKE ALL ON DATABASE remediator FROM PUBLIC;
GRANT CONNECT ON DATABASE remediator TO remediator_service;
SQL
