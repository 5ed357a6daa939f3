#!/bin/sh
# Makes a database and a role for each service, when PostgreSQL starts for the first time. No role reaches another's database.
set -eu
for service in auth login send receiver; do
    psql --quiet --set ON_ERROR_STOP=1 --username postgres --dbname postgres \
        --set service=$service --set password="$(cat /secrets/$service)" <<'SQL'
CREATE ROLE :"service" LOGIN PASSWORD :'password';
-- Whatever the machine's locale is: what people say is kept in UTF-8 only.
CREATE DATABASE :"service" OWNER :"service" TEMPLATE template0 ENCODING 'UTF8';
REVOKE CONNECT ON DATABASE :"service" FROM PUBLIC;
SQL
done
