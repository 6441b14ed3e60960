#!/usr/bin/env bash
# Counts the instructions of the hot path, per operation.
#
#   scripts/instructions.sh            prints the counts and the baseline
#   scripts/instructions.sh --check    also fails if a count is more than 3 % above the baseline
#   scripts/instructions.sh --accept   also makes the counts the new baseline
#
# Needs valgrind. Counts repeat exactly for the same compiler. The baseline
# (benches/baseline/instructions.tsv) names its compiler. With another compiler --check compares
# nothing, and prints a note.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly BASELINE=benches/baseline/instructions.tsv
readonly TOLERANCE_PERCENT=3
# Each operation runs so often in one run, and MEASURED times more in the other.
readonly WARM_UP=1000
readonly MEASURED=5000
# What one more subscriber costs shows between these two.
readonly TO_ONE='forward QoS 0 to 1' TO_MANY='forward QoS 0 to 101' EXTRA=100
# The C library chooses its copying by the machine; here it is the same on all of them.
export GLIBC_TUNABLES=glibc.cpu.hwcaps=-AVX2,-AVX512F,-AVX512VL,-ERMS,-FSRM

main() {
    command -v valgrind >/dev/null || fail "please install valgrind"
    scratch=$(mktemp -d)
    trap 'rm -rf "$scratch"' EXIT
    compiler=$(rustc --version)
    build
    export program WARM_UP MEASURED scratch
    "$program" --list | tr '\n' '\0' |
        xargs -0 -n 1 -P "$(nproc)" bash -c "$(declare -f measure count); measure \"\$0\""
    sort "$scratch"/*.count >"$scratch/counts"
    extra_subscriber >>"$scratch/counts"
    case ${1:-} in
        '') compare || true ;;
        --check) check ;;
        --accept) accept ;;
        *) fail "usage: scripts/instructions.sh [--check|--accept]" ;;
    esac
}

# Cargo is asked where the program is.
build() {
    program=$(cargo build --quiet --release --example instructions --message-format json |
        sed -n '/"name":"instructions"/s/.*"executable":"\([^"]*\)".*/\1/p')
    [[ -x $program ]] || fail "the example «instructions» is not built"
}

# measure NAME: the difference of two runs that differ by their rounds alone.
measure() {
    local few many
    few=$(count "$1" "$WARM_UP") && many=$(count "$1" $((WARM_UP + MEASURED))) || exit 255
    printf '%s\t%s\n' "$1" $(((many - few) / MEASURED)) \
        >"$scratch/$(tr -c 'A-Za-z0-9\n' _ <<<"$1").count"
}

# count NAME ROUNDS: the instructions of a whole run.
count() {
    local report
    report=$(valgrind --tool=callgrind --callgrind-out-file=/dev/null \
        "$program" --run "$1" "$2" 2>&1) || { echo "$report" >&2; return 1; }
    sed -n 's/^==[0-9]*== Collected : \([0-9]*\)$/\1/p' <<<"$report"
}

extra_subscriber() {
    awk -F '\t' -v one="$TO_ONE" -v many="$TO_MANY" -v extra="$EXTRA" '
        { count[$1] = $2 }
        END { printf "forward QoS 0, each extra subscriber\t%d\n",
                     (count[many] - count[one]) / extra }' "$scratch/counts"
}

# Prints all counts beside the baseline; false if one is beyond it, or stands in one list only.
compare() {
    awk -F '\t' -v tolerance="$TOLERANCE_PERCENT" '
        /^#/ { next }
        FNR == NR { baseline[$1] = $2; next }
        !($1 in baseline) { printf "%-52s %9d   new\n", $1, $2; bad = 1; next }
        {
            change = 100 * ($2 - baseline[$1]) / baseline[$1]
            beyond = change > tolerance
            printf "%-52s %9d %+7.1f %%%s\n", $1, $2, change, beyond ? "   beyond the tolerance" : ""
            bad = bad || beyond
            delete baseline[$1]
        }
        END {
            for (name in baseline) { printf "%-52s      gone\n", name; bad = 1 }
            exit bad
        }' "$BASELINE" "$scratch/counts"
}

check() {
    if ! grep -qxF "# $compiler" "$BASELINE"; then
        compare || true
        echo "instructions.sh: the baseline is of another compiler than $compiler: not checked" >&2
        return 0
    fi
    compare || fail "more instructions than the baseline: find out why, or --accept them"
}

accept() {
    { printf '# Instructions per operation, by scripts/instructions.sh --accept.\n# %s\n' "$compiler"
        cat "$scratch/counts"; } >"$BASELINE"
    cat "$scratch/counts"
}

fail() {
    echo "instructions.sh: $*" >&2
    exit 1
}

main "$@"
