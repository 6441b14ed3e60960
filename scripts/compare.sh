#!/usr/bin/env bash
# Compares ringmq with other brokers, and with its own runtime without MQTT, on this machine.
#
#   scripts/compare.sh                    measures everything in half an hour, and writes docs/performance.md
#   scripts/compare.sh --quick            measures everything in one short round
#   scripts/compare.sh --rounds N         sets the number of rounds; default: 5
#   scripts/compare.sh --only WORKLOAD    measures this workload; a name or a pattern such as 'pairs*'; may be repeated
#   scripts/compare.sh --broker NAME      measures this broker; may be repeated
#   scripts/compare.sh --minutes N        stops after this time; default: 45
#   scripts/compare.sh --continue         does the runs that the last comparison did not do
#   scripts/compare.sh --list             lists the workloads and the brokers
#   scripts/compare.sh --page             writes the page from existing results without measuring
#
# target/compare/results.jsonl has the results of the last comparison, one JSON object per line. A
# comparison that is partial or interrupted prints its tables and does not change
# docs/performance.md. A broker that fails a workload twice is skipped, and the page says so.
#
# Brokers are built, or downloaded from their registries, under target/peers. MOSQUITTO selects
# another binary. BROKER_CPU, LOAD_CPU and SECOND_CPU (for two shards) select other cores.
set -euo pipefail
cd "$(dirname "$0")/.."

PROFILE=${PROFILE:-release}
MOSQUITTO=${MOSQUITTO:-mosquitto}
BROKER_CPU=${BROKER_CPU:-0}
SECOND_CPU=${SECOND_CPU:-1}
# Of two cores the second shard and the load have to share one.
LOAD_CPU=${LOAD_CPU:-$(($(nproc) > 2 ? 2 : 1))}
TARGET=$PWD/${CARGO_TARGET_DIR:-target}
readonly BUILT=$TARGET/$PROFILE INSTALLED=$TARGET/peers PEERS=scripts/peers
readonly RESULTS=$TARGET/compare/results.jsonl
readonly RESULT='^{"round": \([0-9]*\), "broker": "\([^"]*\)", "workload": "\([^"]*\)", "outcome": "\([^"]*\)".*'
readonly START_SECONDS=10
# What a run may take that should take one or two seconds, and how often it may fail to.
readonly RUN_SECONDS=15 FAILURES_MAX=2
# The search for the highest rate at which the p99 of latency stays within a bound.
readonly SEARCH_FROM=4000 P99_MAX=50ms

# shellcheck source=scripts/debian.sh
source scripts/debian.sh
# shellcheck source=scripts/peers/brokers.sh
source scripts/peers/brokers.sh

main() {
    local rounds=5 minutes=45 complete=--write fresh=yes
    seconds=1 warmup=300ms brokers=() only=()
    while (($#)); do
        case $1 in
            --quick) rounds=1 seconds=0.3 warmup=100ms complete='' ;;
            --rounds) rounds=$2 && shift ;;
            --only) only+=("$2") complete='' && shift ;;
            --broker) brokers+=("$2") complete='' && shift ;;
            --minutes) minutes=$2 && shift ;;
            --continue) fresh='' ;;
            --list) list && return ;;
            --page) make_page --write && return ;;
            *) usage ;;
        esac
        shift
    done
    ((${#brokers[@]})) || brokers=("${BROKERS[@]}")
    deadline=$((SECONDS + 60 * minutes))
    prepare
    measure_rounds "$rounds"
    make_page "$complete"
}

usage() {
    sed -n '3,/^#$/s/^# \{0,3\}//p' "$0" >&2
    exit 2
}

list() {
    echo 'workloads:'
    workloads | awk -F '\t' '{ printf "  %-19s %s\n", $1, $3 }'
    echo "brokers: ${BROKERS[*]}"
}

# One line for each that was asked for: key, need, name, flags.
workloads() {
    sed -n 's/^\([a-z0-9-]*\) *| *\([a-z0-9]*\) *| *\(.*[^ ]\) *| *\(.*\)$/\1\t\2\t\3\t\4/p' \
        scripts/workloads.txt |
        while IFS=$'\t' read -r key rest; do
            ! is_wanted "$key" || printf '%s\t%s\n' "$key" "$rest"
        done
}

is_wanted() {
    ((${#only[@]})) || return 0
    local pattern
    for pattern in "${only[@]}"; do
        # shellcheck disable=SC2053 # It is a pattern.
        [[ $1 != $pattern ]] || return 0
    done
    return 1
}

make_page() {
    # shellcheck disable=SC2086 # It may be nothing.
    python3 scripts/compare_page.py $1 "$RESULTS"
}

prepare() {
    install_brokers
    scratch=$(mktemp -d)
    json=$scratch/run.json
    broker_pid='' broker_out='' load_pid=''
    trap clean_up EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
    # Ten thousand connections are as many open files.
    ulimit -n "$(ulimit -Hn)"
    declare -gA measured=() failures=()
    if [[ $fresh ]]; then
        mkdir -p "$(dirname "$RESULTS")"
        describe_machine >"$RESULTS"
    else
        read_results
    fi
}

# What has been measured, and where that failed.
read_results() {
    local round broker key outcome
    grep -qF "\"commit\": \"$(commit)\"" "$RESULTS" || fail 'the last comparison was of another commit'
    while IFS=$'\t' read -r round broker key outcome; do
        measured["$round $broker $key"]=$outcome
        ! is_failure "$outcome" || note_failure "$broker $key"
    done < <(sed -n "s/$RESULT/\1\t\2\t\3\t\4/p" "$RESULTS")
}

is_failure() {
    [[ $1 != ok && $1 != 'broke a promise' ]]
}

note_failure() {
    failures["$1"]=$((${failures["$1"]:-0} + 1))
}

# The last one that changed the broker.
commit() {
    local changed=''
    [[ -z $(git status --porcelain -- src Cargo.lock) ]] || changed=-dirty
    echo "$(git log -1 --format=%h -- src Cargo.lock)$changed"
}

install_brokers() {
    has python3 || apt_install python3
    local broker
    for broker in ringmq "${brokers[@]}"; do
        declare -F "install_$broker" >/dev/null || fail "no such broker: $broker"
        say "making $broker ready"
        "install_$broker"
    done
}

# The first line of the results: where, when, and what was compared.
describe_machine() {
    local versions='' broker
    for broker in "${brokers[@]}"; do
        versions+="${versions:+, }\"$broker\": \"$("version_$broker")\""
    done
    printf '{"machine": "%s", "cores": %s, "kernel": "%s", "date": "%s", "commit": "%s", ' \
        "$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1)" "$(nproc)" "$(uname -r)" \
        "$(date -u +%F)" "$(commit)"
    printf '"seconds": %s, "broker_cpu": %s, "second_cpu": %s, "load_cpu": %s, "versions": {%s}}\n' \
        "$seconds" "$BROKER_CPU" "$SECOND_CPU" "$LOAD_CPU" "$versions"
}

# Brokers alternate within a workload and workloads within a round, so that what the machine does
# meanwhile falls on all of them.
measure_rounds() {
    local rounds=$1 round key need name flags broker nth=0 all
    all=$((rounds * $(runs | wc -l)))
    for ((round = 1; round <= rounds; round++)); do
        while IFS=$'\t' read -r broker key name flags; do
            ((++nth))
            [[ -z ${measured["$round $broker $key"]:-} ]] || continue
            if ((SECONDS > deadline)); then
                say "time is up before run $nth of $all; --continue does the rest"
                complete=''
                return
            fi
            say "round $round of $rounds, run $nth of $all: $broker, $name"
            measure "$round" "$broker" "$key" "$flags"
        done < <(runs)
    done
}

# The runs of one round.
runs() {
    workloads | while IFS=$'\t' read -r key need name flags; do
        for broker in "${brokers[@]}"; do
            ! offers "$broker" "$need" || printf '%s\t%s\t%s\t%s\n' "$broker" "$key" "$name" "$flags"
        done
    done
}

# measure ROUND BROKER WORKLOAD FLAGS: one line of results, from a fresh broker.
measure() {
    local round=$1 broker=$2 key=$3 outcome=ok status=0
    read -ra flags <<<"$4"
    if ((${failures["$broker $key"]:-0} >= FAILURES_MAX)); then
        outcome='given up'
    elif ! start "$broker"; then
        outcome='does not start'
    else
        set_rate_to_half
        load "${flags[@]}" || status=$?
        stop_broker
        case $status in
            0) ;;
            1) outcome='broke a promise' ;;
            *) outcome='did not finish' ;;
        esac
    fi
    record "$round" "$broker" "$key" "$outcome"
}

# `--rate half` is half of the highest rate that this broker bears.
set_rate_to_half() {
    local at maximum
    for at in "${!flags[@]}"; do
        [[ ${flags[at]} != half ]] || break
    done
    [[ ${flags[at]} == half ]] || return 0
    flags[at]=$SEARCH_FROM
    seconds=0.5 load "${flags[@]}" --find-max "$P99_MAX" || true
    maximum=$(field highest_rate)
    flags[at]=$((${maximum:-2} / 2))
    say "    at half of what it bears, ${flags[at]} per second:"
}

# load FLAGS...: runs the load generator; its summary is in $json then.
load() {
    local extent=(--duration "${seconds}s" --warmup "$warmup") status=0
    [[ $1 != idle && $1 != retained ]] || extent=()
    [[ " $* " != *' --duration '* ]] || extent=(--warmup "$warmup")
    : >"$json"
    timeout $((RUN_SECONDS + 5)) "$BUILT/loadtest" "$@" "${extent[@]}" --port "$port" \
        --pid "$broker_pid" --cpus "$LOAD_CPU" --deadline "${RUN_SECONDS}s" --timeout 5s --json \
        >"$json" 2>"$scratch/fault" &
    load_pid=$!
    wait "$load_pid" || status=$?
    load_pid=''
    return "$status"
}

# field NAME: a number of the summary, where the total of anything comes first.
field() {
    sed -n "/^ *\"$1\": / { s/.*: \([-0-9.e+]*\),\{0,1\}$/\1/p; q }" "$json"
}

# record ROUND BROKER WORKLOAD OUTCOME
record() {
    local result fault=''
    case $4 in
        ok) say "    $(field cpu_micros_per_delivered) µs, lost $(field lost)" ;;
        'broke a promise') say "    $4: $(tr -d ' \n' <"$json" | grep -o '"breaches":[^]]*]')" ;;
        *)
            fault=$(tail -n 1 "$scratch/fault" 2>/dev/null | tr -cd '[:alnum:] .,:;()_-')
            note_failure "$2 $3"
            : >"$json"
            say "    $4: $fault"
            ;;
    esac
    result=$(tr -s ' \n' ' ' <"$json")
    printf '{"round": %d, "broker": "%s", "workload": "%s", "outcome": "%s", "fault": "%s", "result": %s}\n' \
        "$1" "$2" "$3" "$4" "$fault" "${result:-null}" >>"$RESULTS"
}

# Starts a broker, and says in `port` where it listens.
start() {
    local attempt
    : >"$scratch/fault"
    for attempt in 1 2 3; do
        port=$((20000 + RANDOM % 10000))
        is_open "$port" && continue
        pin=(taskset -c "$BROKER_CPU")
        "command_$1" "$port"
        exec {broker_out}< <(exec "${pin[@]}" "${command[@]}" 2>"$scratch/$1.log" </dev/null)
        broker_pid=$!
        case $1 in
            ringmq* | relay) await_banner && return ;;
            *) await_open && return ;;
        esac
        say "    attempt $attempt: $1 does not start: $(tail -n 1 "$scratch/$1.log")"
        stop_broker
    done
    return 1
}

# What chooses its port itself says it on its output.
await_banner() {
    local line
    while read -rt "$START_SECONDS" -u "$broker_out" line; do
        [[ $line =~ listening\ on\ 127\.0\.0\.1:([0-9]+) ]] || continue
        port=${BASH_REMATCH[1]}
        return
    done
    return 1
}

# Until the port answers, the broker is gone, or it took too long.
await_open() {
    local end=$((SECONDS + START_SECONDS))
    while ((SECONDS < end)) && kill -0 "$broker_pid" 2>/dev/null; do
        is_open "$port" && return
        pause
    done
    return 1
}

is_open() {
    (: <>"/dev/tcp/127.0.0.1/$1") 2>/dev/null
}

# The broker says nothing more on its output: reading it takes this long, or until it has ended.
pause() {
    read -rt 0.05 -u "$broker_out" _ || true
}

# Waits until the broker is gone; one that does not go is killed.
stop_broker() {
    [[ -n $broker_pid ]] || return 0
    kill "$broker_pid" 2>/dev/null || true
    local end=$((SECONDS + 3))
    while kill -0 "$broker_pid" 2>/dev/null && ((SECONDS < end)); do
        pause
    done
    kill -9 "$broker_pid" 2>/dev/null || true
    wait "$broker_pid" 2>/dev/null || true
    exec {broker_out}<&-
    broker_pid=''
}

# Ends what was started here, and nothing else.
# shellcheck disable=SC2317 # The trap calls it.
clean_up() {
    [[ -z $load_pid ]] || kill "$load_pid" 2>/dev/null || true
    stop_broker
    rm -rf "$scratch"
}

say() {
    echo "compare.sh: $*" >&2
}

fail() {
    say "$*"
    exit 1
}

main "$@"
