#!/bin/bash
# mq.sh start|stop|pid|ctl …: a private RabbitMQ node on loopback, with an epmd of its own
. "$(dirname "$0")/env.sh"
export HOME=$PEERS_HOME/.rabbit RABBITMQ_BASE=$PEERS_HOME/.rabbit RABBITMQ_NODENAME=peers@localhost
export RABBITMQ_MNESIA_BASE=$HOME/mnesia RABBITMQ_LOG_BASE=$HOME/log
export RABBITMQ_NODE_PORT=$AMQP_PORT RABBITMQ_NODE_IP_ADDRESS=127.0.0.1 RABBITMQ_DIST_PORT=$((AMQP_PORT + 1))
export ERL_EPMD_PORT=54369 ERL_EPMD_ADDRESS=127.0.0.1
export RABBITMQ_ENABLED_PLUGINS_FILE=$HOME/enabled_plugins RABBITMQ_CONFIG_FILE=$HOME/rabbitmq
export RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS="-kernel inet_dist_use_interface {127,0,0,1}"
B=${RABBITMQ_BIN:-/usr/lib/rabbitmq/bin}
run() { if [ "$(id -u)" = 0 ]; then runuser -u rabbitmq --preserve-environment -- "$@"; else "$@"; fi; }
on() { ss -ltnpH "sport = :$1" 2>/dev/null | sed -n 's/.*pid=\([0-9]*\).*/\1/p' | head -1; }
case $1 in
start)
    mkdir -p "$HOME"/{mnesia,log}
    echo '[].' >"$HOME/enabled_plugins"
    printf 'listeners.tcp.local = 127.0.0.1:%s\nlog.file.level = warning\n' "$AMQP_PORT" >"$HOME/rabbitmq.conf"
    if [ "$(id -u)" = 0 ]; then chown -R rabbitmq "$HOME"; fi
    cd / && run $B/rabbitmq-server -detached 2>&1 | grep -v -i warn
    sleep 3
    run $B/rabbitmqctl -q await_startup --timeout 60 && run $B/rabbitmqctl version
    ;;
stop)
    cd / && run $B/rabbitmqctl -q stop
    pid=$(on 54369)
    [ -n "$pid" ] && kill "$pid"
    ;;
pid) on "$AMQP_PORT" ;;
ctl) cd / && shift && run $B/rabbitmqctl -q "$@" ;;
esac
