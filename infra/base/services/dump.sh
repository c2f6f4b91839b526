#!/bin/sh
# Dump every database named in $DATABASES into /backup (or $FOLDER), whole or not at all; PGHOST, PGUSER and PGPASSWORD
# say where. The list of contents is read back from each dump: one that pg_restore cannot read is no backup.
set -eu
folder=${FOLDER:-/backup}
for name in $DATABASES; do
    pg_dump --format=custom --compress=6 --no-owner --file="$folder/$name.partial" "$name"
    pg_restore --list "$folder/$name.partial" > "$folder/$name.list"
    mv "$folder/$name.partial" "$folder/$name.dump"
    echo "$name: $(wc -c < "$folder/$name.dump") bytes, $(grep -c 'TABLE DATA' "$folder/$name.list" || true) tables"
done
