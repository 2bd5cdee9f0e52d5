#!/bin/bash
# pg.sh init|start|stop|status: a private PostgreSQL on loopback with default durability
. "$(dirname "$0")/env.sh"
DATA=$PEERS_HOME/pg/data
as() { if [ "$(id -u)" = 0 ]; then runuser -u postgres -- "$@"; else "$@"; fi; }
case $1 in
init)
    [ -d "$DATA" ] && exit 0
    mkdir -p "$PEERS_HOME/pg"
    if [ "$(id -u)" = 0 ]; then chown postgres "$PEERS_HOME/pg"; fi
    chmod 700 "$PEERS_HOME/pg"
    as "$PGBIN/initdb" -D "$DATA" -U postgres -A trust -E UTF8 --locale=C.UTF-8 >/dev/null
    # Sizes for a machine of 2 cores and 24 GiB. fsync, synchronous_commit and full_page_writes stay on.
    cat >>"$DATA/postgresql.conf" <<C
listen_addresses = '127.0.0.1'
unix_socket_directories = '$PEERS_HOME/pg'
shared_buffers = 2GB
max_wal_size = 8GB
checkpoint_timeout = 15min
max_connections = 200
logging_collector = off
C
    ;;
start) as "$PGBIN/pg_ctl" -D "$DATA" -o "-p $PGPORT" -l "$PEERS_HOME/pg/log" -w start >/dev/null ;;
stop) as "$PGBIN/pg_ctl" -D "$DATA" -m fast -w stop >/dev/null ;;
status) as "$PGBIN/pg_ctl" -D "$DATA" status | head -1 ;;
esac
