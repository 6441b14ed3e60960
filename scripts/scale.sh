#!/usr/bin/env bash
# Measures the memory that subscriptions and retained messages take with many shards: a table in
# bytes each, for docs/performance.md.
#
#   scripts/scale.sh [SHARDS...]     default: 1 2 8 32
#
# COUNT says how many of each there are, default 100,000. BROKER is the broker that is measured; if
# it is not set, this one is built. Memory is Private_Dirty of the process. Needs python3.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/await.sh

COUNT=${COUNT:-100000}
BROKER=${BROKER:-}
read -ra KINDS <<<"${KINDS:-retained subscriptions wildcards groups}"

main() {
    local shards=("$@") count kind
    ((${#shards[@]})) || shards=(1 2 8 32)
    if [[ -z $BROKER ]]; then
        cargo build --quiet --release --bin ringmq
        BROKER=${CARGO_TARGET_DIR:-target}/release/ringmq
    fi
    scratch=$(mktemp -d)
    broker_pid='' client_pid=''
    trap clean_up EXIT
    echo "| shards | empty, KiB | $(printf '%s | ' "${KINDS[@]}")"
    echo "|---|---|$(printf -- '---|%.0s' "${KINDS[@]}")"
    for count in "${shards[@]}"; do
        start "$count"
        printf '| %s | %s |' "$count" "$(dirty)"
        stop
        for kind in "${KINDS[@]}"; do
            start "$count"
            printf ' %s |' "$(measure "$kind")"
            stop
        done
        echo
    done
}

# start SHARDS: an empty broker.
start() {
    rm -f "$scratch/banner"
    "$BROKER" --listen 127.0.0.1:0 --shards "$1" --sys-interval 0 --log warn \
        --max-subscriptions "$COUNT" --max-wildcard-patterns "$COUNT" \
        --max-subscription-bytes 1GiB >"$scratch/banner" &
    broker_pid=$!
    port=$(await_port)
}

stop() {
    kill -TERM "$broker_pid"
    wait "$broker_pid" || true
    broker_pid=''
}

# measure KIND: bytes for each of COUNT.
measure() {
    local before after
    before=$(dirty)
    mkfifo "$scratch/end"
    python3 scripts/scale_client.py "$port" "$1" "$COUNT" <"$scratch/end" >"$scratch/client" &
    client_pid=$!
    exec 3>"$scratch/end"
    while ! grep -qs done "$scratch/client"; do
        kill -0 "$client_pid" || exit 1
        sleep 0.1
    done
    sleep 2 # The broker gives memory back once a second.
    after=$(dirty)
    exec 3>&-
    wait "$client_pid"
    rm "$scratch/end"
    echo $(((after - before) * 1024 / COUNT))
}

# Private_Dirty of the broker in KiB.
dirty() {
    awk '$1 == "Private_Dirty:" { print $2 }' "/proc/$broker_pid/smaps_rollup"
}

clean_up() {
    [[ -z $broker_pid ]] || kill -TERM "$broker_pid" 2>/dev/null || true
    [[ -z $client_pid ]] || kill -TERM "$client_pid" 2>/dev/null || true
    rm -rf "$scratch"
}

main "$@"
