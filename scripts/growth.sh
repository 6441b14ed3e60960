#!/usr/bin/env bash
# Counts what a delivered message costs in a broker of N shards, without sockets and in one thread:
# the tables of docs/performance.md, "Growth by shards".
#
#   scripts/growth.sh [SHARDS...]     default: 1 2 4 8 16 32 64 128
#
# Each figure is the difference of two runs that differ by their rounds alone. Needs valgrind.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly WARM_UP=16 MEASURED=32
readonly WORKLOADS=(pairs fan-in fan-out share 'fan-out to 512' 'hot topic' 'skewed pairs')
# The C library chooses its copying by the machine; here it is the same on all of them.
export GLIBC_TUNABLES=glibc.cpu.hwcaps=-AVX2,-AVX512F,-AVX512VL,-ERMS,-FSRM

main() {
    command -v valgrind >/dev/null || fail "please install valgrind"
    local shards=("$@") workload count
    ((${#shards[@]})) || shards=(1 2 4 8 16 32 64 128)
    program=$(${SLOT:-} cargo build --quiet --release --example instructions --message-format json |
        sed -n '/"name":"instructions"/s/.*"executable":"\([^"]*\)".*/\1/p')
    [[ -x $program ]] || fail "the example «instructions» is not built"
    for workload in "${WORKLOADS[@]}"; do
        printf '\n%s\n\n' "$workload"
        echo '| shards | instructions | letters | batches | doorbells | bytes of letters |'
        echo '|---|---|---|---|---|---|'
        for count in "${shards[@]}"; do
            measure "$workload" "$count"
        done
    done
}

# measure WORKLOAD SHARDS: a row, each figure per delivered message.
measure() {
    local few many
    few=$(run "$@" $WARM_UP) && many=$(run "$@" $((WARM_UP + MEASURED)))
    awk -v shards="$2" -v few="$few" -v many="$many" 'BEGIN {
        split(few, a, " "); split(many, b, " ")
        n = b[2] - a[2]
        printf "| %d | %d | %.2f | %.3f | %.3f | %d |\n", shards, (b[1] - a[1]) / n,
            (b[3] - a[3]) / n, (b[4] - a[4]) / n, (b[5] - a[5]) / n, (b[6] - a[6]) / n }'
}

# run WORKLOAD SHARDS ROUNDS: the instructions of a whole run, and what it has counted.
run() {
    local report counts
    report=$(mktemp)
    counts=$(valgrind --tool=callgrind --callgrind-out-file=/dev/null \
        "$program" --growth "$@" 2>"$report") || { cat "$report" >&2; return 1; }
    echo "$(sed -n 's/^==[0-9]*== Collected : \([0-9]*\)$/\1/p' "$report") $counts"
    rm "$report"
}

fail() {
    echo "growth.sh: $*" >&2
    exit 1
}

main "$@"
