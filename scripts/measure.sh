#!/usr/bin/env bash
# Measures ringmq against mosquitto on this machine, in alternation.
#
#   scripts/measure.sh [-r ROUNDS] [-b BROKER]...        broker CPU per delivered message
#   scripts/measure.sh [-r ROUNDS] [-b BROKER]... idle   memory per idle connection
#
# -b chooses: ringmq, mosquitto, or relay, the null relay of benches/: ringmq without MQTT. It has no
# QoS 1, so that workload fails. Set MOSQUITTO to choose another binary,
# BROKER_CPU and LOAD_CPU to choose other cores, PROFILE=quick for a faster build.
# Exit status: 1 when a broker broke a promise or a run failed.
set -euo pipefail
cd "$(dirname "$0")/.."

MOSQUITTO=${MOSQUITTO:-mosquitto}
BROKER_CPU=${BROKER_CPU:-0}
LOAD_CPU=${LOAD_CPU:-1}
PROFILE=${PROFILE:-release}
TARGET=${CARGO_TARGET_DIR:-target}/$PROFILE
IDLE_CONNECTIONS=10000
START_SECONDS=10
RUN_SECONDS=120

# A workload: its name in the table, and the flags of loadtest.
WORKLOADS=(
    '1 → 500, one at a time|fan-out --round --count 600 --warmup 50'
    '1 → 500, 16 at a time|fan-out --round --burst 16 --count 1600 --warmup 160'
    '1 → 500, flood|fan-out --count 1500 --warmup 100'
    '50 → 1, bursts of 50|fan-in --round --count 5000 --warmup 500'
    '100 pairs, 256 B, one message each per round|pairs --size 256 --round --count 2000 --warmup 200'
    '100 pairs, 256 B, flood|pairs --size 256 --count 4000 --warmup 200'
    '100 pairs, 256 B, QoS 1, 20 in flight|pairs --size 256 --qos 1 --in-flight 20 --count 2000 --warmup 200'
)

main() {
    local rounds=3 brokers=() option
    while getopts r:b: option; do
        case $option in
            r) rounds=$OPTARG ;;
            b) brokers+=("$OPTARG") ;;
            *) usage ;;
        esac
    done
    shift $((OPTIND - 1))
    ((${#brokers[@]})) || brokers=(ringmq mosquitto)
    scratch=$(mktemp -d)
    results=$scratch/results.tsv
    broker_pid='' broker_out='' load_pid='' failed=0
    trap clean_up EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
    build "${brokers[@]}"
    touch "$results"
    case ${1:-cpu} in
        cpu)
            measure_cpu "$rounds" "${brokers[@]}"
            print_cpu "${brokers[@]}"
            ;;
        idle)
            measure_idle "$rounds" "${brokers[@]}"
            print_idle "${brokers[@]}"
            ;;
        *) usage ;;
    esac
    exit "$failed"
}

usage() {
    echo "usage: scripts/measure.sh [-r ROUNDS] [-b ringmq|mosquitto|relay]... [idle]" >&2
    exit 2
}

# Ends what was started here, and nothing else.
# shellcheck disable=SC2317 # The trap calls it.
clean_up() {
    [[ -z $load_pid ]] || kill "$load_pid" 2>/dev/null || true
    stop_broker
    rm -rf "$scratch"
}

build() {
    cargo build --quiet --profile "$PROFILE" --package ringmq --package loadtest
    local broker
    for broker in "$@"; do
        [[ $broker != relay ]] || build_relay
    done
}

# The file name of a bench has a hash in it, so cargo is asked for it.
build_relay() {
    relay=$(cargo build --quiet --profile "$PROFILE" --bench null_relay --message-format json |
        sed -n '/"name":"null_relay"/s/.*"executable":"\([^"]*\)".*/\1/p')
}

measure_cpu() {
    local rounds=$1 round workload broker flags
    shift
    for ((round = 1; round <= rounds; round++)); do
        for workload in "${WORKLOADS[@]}"; do
            for broker in "$@"; do
                echo "round $round of $rounds: $broker, ${workload%%|*}" >&2
                pin=(taskset -c "$BROKER_CPU") shards=1 cpus=$BROKER_CPU
                read -ra flags <<<"${workload#*|}"
                measure "$broker" "${workload%%|*}" "${flags[@]}" --cpus "$LOAD_CPU"
            done
        done
    done
}

measure_idle() {
    local rounds=$1 round broker
    shift
    ulimit -n "$(ulimit -Hn)"
    for ((round = 1; round <= rounds; round++)); do
        for broker in "$@"; do
            echo "round $round of $rounds: $broker, $IDLE_CONNECTIONS idle connections" >&2
            pin=() shards=2 cpus=$BROKER_CPU,$LOAD_CPU
            measure "$broker" idle idle --connections "$IDLE_CONNECTIONS" --hold 2s
        done
    done
}

# measure BROKER WORKLOAD FLAGS...: one line of results from a fresh broker.
measure() {
    local broker=$1 workload=$2 json=$scratch/run.json status=0
    shift 2
    if ! start "$broker"; then
        fail "$broker does not start"
        return
    fi
    timeout $((RUN_SECONDS + 10)) "$TARGET/loadtest" "$@" --port "$port" --pid "$broker_pid" \
        --deadline "${RUN_SECONDS}s" --timeout 2s --json >"$json" &
    load_pid=$!
    wait "$load_pid" || status=$?
    load_pid=''
    if ((status == 1)); then
        fail "$broker, $workload: $(tr -d ' \n' <"$json" | grep -o '"breaches":[^]]*]')"
    fi
    if ((status <= 1)); then
        printf '%s\t%s\t%s\t%s\t%s\t%s\t%s\n' "$workload" "$broker" \
            "$(field cpu_micros_per_delivered "$json")" "$(field lost "$json")" \
            "$(field resident_bytes_unconnected "$json")" \
            "$(field resident_bytes_per_connection "$json")" \
            "$(field resident_bytes_held "$json")" >>"$results"
    else
        fail "$broker, $workload: loadtest ended with $status"
    fi
    stop_broker
}

fail() {
    echo "$1" >&2
    failed=1
}

# field NAME FILE: a number of the summary, which has each name once and on its own line.
field() {
    sed -n "s/^ *\"$1\": \([-0-9.e+]*\),\{0,1\}$/\1/p" "$2"
}

# Starts a broker, and says in `port` where it listens.
start() {
    case $1 in
        ringmq) start_ours ringmq "$TARGET/ringmq" --shards "$shards" --cpus "$cpus" \
            --listen 127.0.0.1:0 ;;
        relay) start_ours relay "$relay" --serve "${cpus%%,*}" ;;
        mosquitto) start_mosquitto ;;
        *) usage ;;
    esac
}

# start_ours NAME COMMAND...: what says on its output where it listens.
start_ours() {
    local name=$1
    shift
    exec {broker_out}< <(exec "${pin[@]}" "$@" 2>"$scratch/$name.log")
    broker_pid=$!
    local line
    while read -rt "$START_SECONDS" -u "$broker_out" line; do
        if [[ $line =~ listening\ on\ 127\.0\.0\.1:([0-9]+) ]]; then
            port=${BASH_REMATCH[1]}
            return 0
        fi
    done
    cat "$scratch/$name.log" >&2
    stop_broker
    return 1
}

# Mosquitto does not choose a port itself: tries a few until it keeps one.
start_mosquitto() {
    local attempt
    for attempt in 1 2 3 4 5; do
        port=$((20000 + RANDOM % 10000))
        is_open "$port" && continue
        write_mosquitto_config >"$scratch/mosquitto.conf"
        exec {broker_out}< <(
            exec "${pin[@]}" "$MOSQUITTO" -c "$scratch/mosquitto.conf" 2>"$scratch/mosquitto.log"
        )
        broker_pid=$!
        await_open "$port" && return 0
        echo "mosquitto, attempt $attempt: no answer on port $port" >&2
        cat "$scratch/mosquitto.log" >&2
        stop_broker
    done
    return 1
}

write_mosquitto_config() {
    printf '%s\n' "listener $port 127.0.0.1" 'allow_anonymous true' 'persistence false' \
        'max_queued_messages 0' 'log_dest none'
}

# Until the port answers, the broker is gone, or it took too long.
await_open() {
    local end=$((SECONDS + START_SECONDS))
    while ((SECONDS < end)) && kill -0 "$broker_pid" 2>/dev/null; do
        is_open "$1" && return 0
        # The broker says nothing on its output: reading it is a pause, and ends when it ends.
        read -rt 0.05 -u "$broker_out" _ || true
    done
    return 1
}

is_open() {
    (: <>"/dev/tcp/127.0.0.1/$1") 2>/dev/null
}

# Waits until the broker is gone; one that does not go is killed.
stop_broker() {
    [[ -n $broker_pid ]] || return 0
    kill "$broker_pid" 2>/dev/null || true
    local end=$((SECONDS + START_SECONDS))
    while kill -0 "$broker_pid" 2>/dev/null && ((SECONDS < end)); do
        read -rt 0.05 -u "$broker_out" _ || true
    done
    kill -9 "$broker_pid" 2>/dev/null || true
    wait "$broker_pid" 2>/dev/null || true
    exec {broker_out}<&-
    broker_pid=''
}

print_cpu() {
    echo
    echo "Broker CPU µs per delivered message: median (lowest – highest) of the rounds; $(machine)."
    echo
    if (($# > 1)); then
        echo "| workload | $1 | $2 | ratio | lost: $1, $2 |"
        echo '|---|---|---|---|---|'
    else
        echo "| workload | $1 | lost |"
        echo '|---|---|---|'
    fi
    local workload
    for workload in "${WORKLOADS[@]}"; do
        print_row "${workload%%|*}" 3 1 %.2f "$@"
    done
}

print_idle() {
    echo
    echo "$IDLE_CONNECTIONS idle connections with one subscription each, then one message to each:"
    echo "resident memory, median (lowest – highest) of the rounds; $(machine)."
    echo
    if (($# > 1)); then
        echo "| | $1 | $2 | ratio | lost: $1, $2 |"
        echo '|---|---|---|---|---|'
    else
        echo "| | $1 | lost |"
        echo '|---|---|---|'
    fi
    print_row idle 6 1 %.0f "$@" | sed 's/^| idle/| bytes per connection/'
    print_row idle 5 1024 %.0f "$@" | sed 's/^| idle/| KiB before the first connection/'
    print_row idle 7 1024 %.0f "$@" | sed 's/^| idle/| KiB at the end/'
}

# print_row WORKLOAD COLUMN UNIT FORMAT BROKER...: one row of the table, of one column of results.
print_row() {
    local workload=$1 column=$2 unit=$3 format=$4
    shift 4
    local cells='' lost='' medians=() broker low median high sum
    for broker in "$@"; do
        read -r low median high sum < <(figures "$workload" "$broker" "$column" "$unit" "$format")
        cells+=" $median ($low – $high) |"
        lost+="${lost:+, }$sum"
        medians+=("$median")
    done
    if (($# > 1)); then
        cells+=" $(awk -v a="${medians[0]}" -v b="${medians[1]}" \
            'BEGIN { if (a + 0 && b + 0) printf "%.2f", a / b; else printf "–" }') |"
    fi
    echo "| $workload |$cells $lost |"
}

# figures WORKLOAD BROKER COLUMN UNIT FORMAT: lowest, median, highest, and all that was lost.
figures() {
    awk -F '\t' -v workload="$1" -v broker="$2" -v column="$3" \
        '$1 == workload && $2 == broker { print $column "\t" $4 }' "$results" |
        sort -g |
        awk -v unit="$4" -v format="$5" '
            { value[NR] = $1 / unit; lost += $2 }
            END {
                if (!NR) { print "– – – –"; exit }
                middle = int((NR + 1) / 2)
                median = NR % 2 ? value[middle] : (value[middle] + value[middle + 1]) / 2
                printf format " " format " " format " %d\n", value[1], median, value[NR], lost
            }'
}

machine() {
    printf '%s, %s cores, Linux %s' "$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1)" \
        "$(nproc)" "$(uname -r)"
}

main "$@"
