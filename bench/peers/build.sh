#!/bin/bash
# build.sh [name…]: the Rust programs, release build, into $PEERS_HOME/.installs/bin
. "$(dirname "$0")/env.sh"
unset DATABASE_URL # the macros of sqlx in some peers would check against it
mkdir -p "$PEERS_HOME/.installs/bin"
for d in ${@:-raw-pg apalis-pg gw-rs fang pgmq awa}; do
    (cd "$PEERS/src/rs/$d" && cargo build --release --locked ${BUILD_ARGS--j2}) || exit 1
    cp "$CARGO_TARGET_DIR/release/pb-$d" "$PEERS_HOME/.installs/bin/"
done
