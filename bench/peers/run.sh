#!/bin/bash
# run.sh PART… [options of bench.py]: the private servers that these parts need, the parts, and an end of the servers.
. "$(dirname "$0")/env.sh"
cd "$PEERS" || exit 1
needs() { for part in "${PARTS[@]}"; do case " $1 " in *" $part "*) return 0 ;; esac done; return 1; }
PARTS=()
for word in "$@"; do case $word in -*) break ;; *) PARTS+=("$word") ;; esac done
child=
stop() {
    [ -n "$child" ] && kill "$child" 2>/dev/null
    ./pg.sh stop
    needs "broker broker-latency" && ./mq.sh stop
    needs redis && ./redis.sh stop
}
trap stop EXIT
trap 'exit 1' INT TERM
./pg.sh init && ./pg.sh start || exit 1
needs "broker broker-latency" && { ./mq.sh start || exit 1; }
needs redis && { ./redis.sh start || exit 1; }
python3 bench.py "$@" &
child=$!
wait "$child"
status=$? child=
exit $status
