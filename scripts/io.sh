#!/usr/bin/env bash
# Measures what epoll costs beside io_uring: CPU of the broker per delivered message.
#
#   scripts/io.sh            runs seven rounds and prints a table
#   scripts/io.sh --rounds N
#
# The broker runs on core 0 and the load on core 1. Each run starts a fresh broker, and the two
# alternate. PROFILE=quick builds faster.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/await.sh

PROFILE=${PROFILE:-release}
TARGET=${CARGO_TARGET_DIR:-target}/$PROFILE

# A load: its name, and the flags of loadtest.
LOADS=(
    '100 pairs, 256 B, one each at a time|pairs --size 256 --round'
    '100 pairs, 256 B, 200 each at a time|pairs --size 256 --round --burst 200'
    '1 → 500, one at a time|fan-out --round'
    '1 → 500, 16 at a time|fan-out --round --burst 16'
    '100 pairs, 256 B, QoS 1, 20 in flight|pairs --size 256 --qos 1'
    '10 pairs, 1 MiB, 2 each at a time|pairs --pairs 10 --size 1048576 --round --burst 2 --send-buffer 0'
)

main() {
    local rounds=7 load io round
    [[ ${1:-} != --rounds ]] || rounds=$2
    cargo build --quiet --profile "$PROFILE" --workspace --bins
    scratch=$(mktemp -d)
    broker_pid=''
    trap clean_up EXIT
    echo '| workload | io_uring, CPU µs per message | epoll | ratio |'
    echo '|---|---|---|---|'
    for load in "${LOADS[@]}"; do
        : >"$scratch/ring" && : >"$scratch/poll"
        for ((round = 0; round < rounds; round++)); do
            for io in ring poll; do
                measure "$io" "${load#*|}" >>"$scratch/$io"
            done
        done
        row "${load%%|*}"
    done
}

# measure IO FLAGS: the CPU of one run.
measure() {
    local port
    rm -f "$scratch/banner"
    taskset -c 0 "$TARGET/ringmq" --listen 127.0.0.1:0 --shards 1 --io "$1" --sys-interval 0 \
        --log error >"$scratch/banner" &
    broker_pid=$!
    port=$(await_port)
    # shellcheck disable=SC2086 # The flags are words.
    "$TARGET/loadtest" $2 --duration 1s --warmup 300ms --port "$port" --pid "$broker_pid" --cpus 1 \
        --json >"$scratch/json"
    sed -n '/^ *"cpu_micros_per_delivered": / { s/.*: \([-0-9.e+]*\),\{0,1\}$/\1/p; q }' \
        "$scratch/json"
    kill "$broker_pid"
    wait "$broker_pid" || true
    broker_pid=''
}

# row NAME: medians, with the lowest and the highest value.
row() {
    local ring poll
    ring=$(sort -g "$scratch/ring" | middle)
    poll=$(sort -g "$scratch/poll" | middle)
    awk -v name="$1" -v ring="$ring" -v poll="$poll" 'BEGIN {
        split(ring, r, " "); split(poll, p, " ")
        printf "| %s | %.3g (%.3g – %.3g) | %.3g (%.3g – %.3g) | %.2f |\n",
            name, r[2], r[1], r[3], p[2], p[1], p[3], p[2] / r[2]
    }'
}

middle() {
    awk '{ all[NR] = $1 } END { print all[1], all[int((NR + 1) / 2)], all[NR] }'
}

# Ends what was started here.
# shellcheck disable=SC2317 # The trap calls it.
clean_up() {
    [[ -z $broker_pid ]] || kill "$broker_pid" 2>/dev/null || true
    rm -rf "$scratch"
}

main "$@"
