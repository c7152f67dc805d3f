#!/usr/bin/env bash
# Makes a database and a role for each tier. A role may connect to its own database and to no other.
# The image of PostgreSQL runs this once, when its data directory is new.
set -euo pipefail

tier() {
  psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname postgres \
    --set tier="$1" --set password="$2" <<'SQL'
CREATE ROLE :"tier" LOGIN PASSWORD :'password';
CREATE DATABASE :"tier" OWNER :"tier";
REVOKE CONNECT, TEMPORARY ON DATABASE :"tier" FROM PUBLIC;
SQL
}

psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname postgres \
  --command 'REVOKE CONNECT ON DATABASE postgres, template1 FROM PUBLIC'
tier international "$INTERNATIONAL_PASSWORD"
tier regional "$REGIONAL_PASSWORD"
tier local "$LOCAL_PASSWORD"
