#!/usr/bin/env bash
# Runs the broker under many seeds; see docs/simulation.md.
#
#   scripts/simulate.sh [SEEDS]          so many new seeds, 100,000 unless said
#   scripts/simulate.sh --minutes N      new seeds for so long
#   scripts/simulate.sh --from S SEEDS   the seeds from S on
#   scripts/simulate.sh --seed S         one seed, told packet by packet
#   scripts/simulate.sh --planted        the planted faults, and how soon each is found
#   scripts/simulate.sh --coverage SEEDS the lines of the broker that these reach (cargo-llvm-cov)
#
# Set PROFILE=dev for a faster build and slower runs.
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
        --planted) test=planted_faults_are_found ;;
        --coverage) export SIMULATE_FROM=0 SIMULATE_SEEDS=${2:-3000} ;;
        --minutes) export SIMULATE_SECONDS=$(($2 * 60)) ;;
        --from) export SIMULATE_FROM=$2 SIMULATE_SEEDS=$3 ;;
        -*) usage ;;
        *) export SIMULATE_SEEDS=${1:-100000} ;;
    esac
    case ${1:-} in
        --coverage) measure_coverage "$test" ;;
        *) cargo test --quiet --profile "$PROFILE" "${ONLY[@]}" "$test" -- --exact --nocapture ;;
    esac
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
