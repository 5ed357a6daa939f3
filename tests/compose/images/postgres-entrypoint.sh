# Makes the data folder the first time, with the password in POSTGRES_PASSWORD_FILE and what /docker-entrypoint-initdb.d adds,
# and then is the server.
set -eu
if [ ! -s "$PGDATA/PG_VERSION" ]; then
    initdb --username=postgres --pwfile="$POSTGRES_PASSWORD_FILE" --auth-local=trust --auth-host=scram-sha-256 >/dev/null
    echo "host all all all scram-sha-256" >>"$PGDATA/pg_hba.conf"
    # On the socket only, so that nobody takes a half-made server for a ready one.
    pg_ctl --silent --wait --options="-c listen_addresses=''" start
    for script in /docker-entrypoint-initdb.d/*.sh; do sh "$script"; done
    pg_ctl --silent --wait --mode=fast stop
fi
exec postgres -c listen_addresses='*'
