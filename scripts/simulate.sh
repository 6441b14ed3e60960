#!/usr/bin/env bash
# Runs the simulation of the broker with many seeds. See docs/simulation.md.
#
#   scripts/simulate.sh [SEEDS]          runs this number of new seeds; default: 100,000
#   scripts/simulate.sh --minutes N      runs new seeds for this time
#   scripts/simulate.sh --from S SEEDS   runs SEEDS seeds, beginning with S
#   scripts/simulate.sh --seed S         runs one seed and prints each packet
#   scripts/simulate.sh --planted        prints how many seeds it takes to find each planted fault
#   scripts/simulate.sh --disk [SEEDS]   runs this number of new seeds with a disk and crashes
#   scripts/simulate.sh --disk-seed S    runs one of them and prints each packet
#   scripts/simulate.sh --coverage SEEDS prints which lines these seeds reach (cargo-llvm-cov)
#
# PROFILE=dev builds faster and runs slower.
set -euo pipefail
cd "$(dirname "$0")/.."

PROFILE=${PROFILE:-simulation}
readonly ONLY=(--test simulation)

main() {
    local test=new_seeds_keep_the_laws
    export SIMULATE_SECONDS=$((366 * 24 * 3600))
    case ${1:-} in
        --seed)
            export SIMULATE_STORY=$2
            test=one_seed_is_told
            ;;
        --planted) test=planted_faults ;;
        --disk)
            export SIMULATE_SEEDS=${2:-100000} SIMULATE_FROM=$(($(date +%s) << 20))
            test=promises_are_kept_over_crashes
            ;;
        --disk-seed)
            export SIMULATE_DISK_STORY=$2
            test=one_seed_with_crashes_is_told
            ;;
        --coverage) export SIMULATE_FROM=0 SIMULATE_SEEDS=${2:-3000} ;;
        --minutes) export SIMULATE_SECONDS=$(($2 * 60)) ;;
        --from) export SIMULATE_FROM=$2 SIMULATE_SEEDS=$3 ;;
        -*) usage ;;
        *) export SIMULATE_SEEDS=${1:-100000} ;;
    esac
    case ${1:-} in
        --coverage) measure_coverage "$test" ;;
        --planted) simulate "$test" ;;
        *) simulate "$test" --exact ;;
    esac
}

simulate() {
    cargo test --quiet --profile "$PROFILE" "${ONLY[@]}" "$1" -- --nocapture "${@:2}"
}

# Lines of each room and file, of what is compiled into the broker's brain; the sum comes last.
measure_coverage() {
    local others='(tests|benches|loadtest|mqtt|topic|base|access|transport|mesh|runtime|config)/'
    cargo llvm-cov --profile "$PROFILE" "${ONLY[@]}" --summary-only \
        --ignore-filename-regex "$others|/[^/]*/src/(lib|main|server).rs|src/routing/twin.rs" \
        -- "$1" --exact
}

usage() {
    sed -n '2,/^$/s/^# \{0,1\}//p' "$0" >&2
    exit 2
}

main "$@"
