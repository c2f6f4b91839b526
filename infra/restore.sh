#!/bin/sh
# Bring back one database from its dump, beside the one that is there: sh infra/restore.sh DUMP DATABASE OWNER
#
# DUMP is a file of the nightly backup (s3://k2-backup/postgres/TIME/DATABASE.dump; check it with `sha256sum -c SHA256SUMS`).
# PGHOST, PGUSER (an administrator) and PGPASSWORD say where. The database NAME_restored is made, filled in one
# transaction and counted against the dump's own list; what is in NAME stays until you swap the two, which the last line
# tells how to. Nothing is left behind when it fails.
set -eu
if [ $# -ne 3 ]; then sed -n '2,8p' "$0" | cut -c3-; exit 2; fi
dump=$1 name=$2 owner=$3 new="$2_restored"

wanted=$(pg_restore --list "$dump" | grep -c ' TABLE DATA ' || true)
if [ "$wanted" -eq 0 ]; then echo "restore: $dump holds no table" >&2; exit 1; fi
if [ -n "$(psql --no-align --tuples-only --dbname=postgres --command="SELECT 1 FROM pg_database WHERE datname = '$new'")" ]; then
    echo "restore: database $new is there already; drop it first (dropdb $new)" >&2
    exit 1
fi
createdb --owner="$owner" "$new"
trap 'dropdb --if-exists "$new"' EXIT
pg_restore --exit-on-error --single-transaction --no-owner --role="$owner" --dbname="$new" "$dump"
found=$(psql --no-align --tuples-only --dbname="$new" \
    --command="SELECT count(*) FROM pg_class JOIN pg_namespace n ON n.oid = relnamespace
               WHERE relkind = 'r' AND n.nspname NOT IN ('pg_catalog', 'information_schema')")
if [ "$found" -ne "$wanted" ]; then echo "restore: $found tables in $new, expected $wanted" >&2; exit 1; fi
psql --quiet --dbname=postgres --command="REVOKE CONNECT, TEMPORARY ON DATABASE \"$new\" FROM PUBLIC"
trap - EXIT
echo "$new holds $found tables. With its clients stopped: ALTER DATABASE \"$name\" RENAME TO \"${name}_before\"; ALTER DATABASE \"$new\" RENAME TO \"$name\";"
