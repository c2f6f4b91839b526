#!/bin/sh
# Roles and databases of a fresh PostgreSQL, run once by its image: MLflow and Flyte own one database each and see no
# other, and `backup` may read both.
set -eu
psql --set=ON_ERROR_STOP=1 --username="$POSTGRES_USER" --dbname=postgres \
    --set=mlflow="$MLFLOW_PASSWORD" --set=flyte="$FLYTE_PASSWORD" --set=backup="$BACKUP_PASSWORD" <<'SQL'
CREATE ROLE mlflow LOGIN PASSWORD :'mlflow' CONNECTION LIMIT 40;
CREATE ROLE flyte LOGIN PASSWORD :'flyte' CONNECTION LIMIT 100;
CREATE ROLE backup LOGIN PASSWORD :'backup' CONNECTION LIMIT 4;
CREATE DATABASE mlflow OWNER mlflow;
CREATE DATABASE flyte OWNER flyte;
REVOKE CONNECT, TEMPORARY ON DATABASE mlflow, flyte, postgres FROM PUBLIC;
GRANT CONNECT ON DATABASE mlflow, flyte TO backup;
GRANT pg_read_all_data TO backup;
SQL
