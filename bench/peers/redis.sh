#!/bin/bash
# redis.sh start|stop: a private Redis on loopback, append-only file synced every second (weaker than the others' durability)
. "$(dirname "$0")/env.sh"
case $1 in
start)
    mkdir -p "$PEERS_HOME/.redis"
    redis-server --port "$REDIS_PORT" --bind 127.0.0.1 --dir "$PEERS_HOME/.redis" --appendonly yes --appendfsync everysec \
        --save "" --maxmemory-policy noeviction --daemonize yes --pidfile "$PEERS_HOME/.redis/pid" >/dev/null
    sleep 0.5
    redis-cli -p "$REDIS_PORT" info server | grep redis_version
    ;;
stop) redis-cli -p "$REDIS_PORT" shutdown nosave ;;
esac
