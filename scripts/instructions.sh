#!/usr/bin/env bash
# Counts the instructions of the hot path, per operation.
#
#   scripts/instructions.sh
#
# Needs valgrind. Counts hardly change from run to run, even on a busy machine, but do with the
# compiler. Set PROFILE=quick for a faster build: counts of different profiles do not compare.
set -euo pipefail
cd "$(dirname "$0")/.."

PROFILE=${PROFILE:-release}
# Each operation runs so often in one run, and MEASURED times more in the other.
readonly WARM_UP=1000
readonly MEASURED=10000
# What one more subscriber costs shows between these two.
readonly TO_ONE='forward QoS 0 to 1' TO_MANY='forward QoS 0 to 101' EXTRA=100

main() {
    command -v valgrind >/dev/null || fail "please install valgrind"
    build
    local name few many operations
    declare -A total
    mapfile -t operations < <("$program" --list)
    row operation instructions
    for name in "${operations[@]}"; do
        few=$(count "$name" "$WARM_UP")
        many=$(count "$name" $((WARM_UP + MEASURED)))
        total[$name]=$((many - few))
        row "$name" "$(per_operation "${total[$name]}" "$MEASURED")"
    done
    row 'forward QoS 0, each extra subscriber' \
        "$(per_operation $((total[$TO_MANY] - total[$TO_ONE])) $((MEASURED * EXTRA)))"
}

# The file name of a bench has a hash in it, so cargo is asked for it.
build() {
    program=$(cargo build --quiet --profile "$PROFILE" --bench instructions --message-format json |
        sed -n '/"name":"instructions"/s/.*"executable":"\([^"]*\)".*/\1/p')
    [[ -x $program ]] || fail "the bench «instructions» is not built"
}

# count NAME ROUNDS: the instructions of a whole run.
count() {
    local report
    report=$(valgrind --tool=callgrind --callgrind-out-file=/dev/null \
        "$program" --run "$1" "$2" 2>&1) || fail "$report"
    sed -n 's/^==[0-9]*== Collected : \([0-9]*\)$/\1/p' <<<"$report"
}

per_operation() {
    awk -v total="$1" -v times="$2" 'BEGIN { printf "%.1f", total / times }'
}

row() {
    printf '%-40s %14s\n' "$1" "$2"
}

fail() {
    echo "$*" >&2
    exit 1
}

main
