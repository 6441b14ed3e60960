#!/usr/bin/env bash
# Counts the system calls of ringmq under load, by call and per delivered message.
#
#   scripts/syscalls.sh
#
# Needs strace. The broker runs on core 0 and the load on core 1. BROKER_CPU and LOAD_CPU select
# other cores. PROFILE=quick builds faster.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/await.sh

BROKER_CPU=${BROKER_CPU:-0}
LOAD_CPU=${LOAD_CPU:-1}
PROFILE=${PROFILE:-release}
TARGET=${CARGO_TARGET_DIR:-target}/$PROFILE

# A load: its name, and the flags of loadtest.
LOADS=(
    'fan-in 50 → 1, bursts of 50|fan-in --round --count 2000 --warmup 200'
    'fan-in 50 → 1, flood|fan-in --count 4000 --warmup 200'
    'fan-out 1 → 500, one at a time|fan-out --round --count 300 --warmup 20'
    'fan-out 1 → 500, flood|fan-out --count 1000 --warmup 50'
)

main() {
    command -v strace >/dev/null || fail "please install strace"
    cargo build --quiet --profile "$PROFILE" --workspace --bins
    scratch=$(mktemp -d)
    broker_pid=''
    trap clean_up EXIT
    local load
    for load in "${LOADS[@]}"; do
        count "${load%%|*}" "${load#*|}"
    done
}

# count NAME FLAGS: one broker, one load, one table. The tracer is attached after the start and
# counts warm-up and connecting too.
count() {
    local name=$1 port delivered tracer
    "$TARGET/ringmq" --listen 127.0.0.1:0 --shards 1 --cpus "$BROKER_CPU" >"$scratch/banner" &
    broker_pid=$!
    port=$(await_port)
    strace -c -f -p "$broker_pid" -o "$scratch/calls" 2>"$scratch/attached" &
    tracer=$!
    await_line attached "$scratch/attached"
    # shellcheck disable=SC2086 # The flags are words.
    taskset -c "$LOAD_CPU" "$TARGET/loadtest" $2 --port "$port" >"$scratch/load"
    kill -INT "$tracer"
    wait "$tracer" || true
    kill -TERM "$broker_pid"
    wait "$broker_pid"
    broker_pid=''
    delivered=$(awk '$1 == "delivered" { print $2; exit }' "$scratch/load")
    echo
    echo "$name: $delivered messages delivered"
    awk -v messages="$delivered" '
        $1 ~ /^[0-9.]+$/ && $NF != "total" { printf "%10d  %8.4f per message  %s\n", $4, $4 / messages, $NF }
    ' "$scratch/calls"
}

clean_up() {
    [[ -z $broker_pid ]] || kill -TERM "$broker_pid" 2>/dev/null || true
    rm -rf "$scratch"
}

fail() {
    echo "$*" >&2
    exit 1
}

main
