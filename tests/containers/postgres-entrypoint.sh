#!/bin/sh
# Makes the cluster that POSTGRES_USER, POSTGRES_PASSWORD and POSTGRES_DB ask for, then becomes the server.
set -eu

user=${POSTGRES_USER:-postgres}
database=${POSTGRES_DB:-$user}

if [ ! -s "$PGDATA/PG_VERSION" ]; then
  mkdir -p "$PGDATA"
  chmod 700 "$PGDATA"
  printf '%s\n' "${POSTGRES_PASSWORD:?POSTGRES_PASSWORD must be set}" >/tmp/password
  initdb -D "$PGDATA" -U "$user" --pwfile=/tmp/password -A scram-sha-256 --auth-local=trust \
    -E UTF8 --locale=C.UTF-8 --no-sync
  printf 'host all all all scram-sha-256\n' >>"$PGDATA/pg_hba.conf"
  # On the socket only, so that nobody who waits on TCP takes this for the server.
  pg_ctl -D "$PGDATA" -w -o "-c listen_addresses=''" start
  [ "$database" = postgres ] ||
    psql -v ON_ERROR_STOP=1 -U "$user" -d postgres -c "create database \"$database\""
  pg_ctl -D "$PGDATA" -m fast -w stop
fi

exec "$@" -c listen_addresses='*'
