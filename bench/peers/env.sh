# Sourced by every script: where things are. All of it can be set from outside.
export PEERS=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
export PEERS_HOME=${PEERS_HOME:-$PEERS/.work} # installs, builds, data, figures: nothing of it is kept
export PGBIN=${PGBIN:-$(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -V | tail -1)}
export PGHOST=127.0.0.1 PGPORT=${PEERS_PGPORT:-55442} PGUSER=postgres PGDATABASE=postgres
export AMQP_PORT=${PEERS_AMQP_PORT:-55672} REDIS_PORT=${PEERS_REDIS_PORT:-56379}
export AMQP_URL=amqp://guest:guest@127.0.0.1:$AMQP_PORT/%2f
export CARGO_TARGET_DIR=$PEERS_HOME/.installs/target
mkdir -p "$PEERS_HOME/raw"
