#!/usr/bin/env bash
# Kills a broker at random moments, and accounts for all that it has acknowledged. See
# docs/durability.md.
#
#   scripts/crash.sh [KILLS]         kills a broker this often; default: 1,000
#   scripts/crash.sh --seed S KILLS  the same with the choices of this seed
#
# PROFILE=quick builds a broker that is as fast as a released one.
set -euo pipefail
cd "$(dirname "$0")/.."

main() {
    export CRASH_SEED=$((RANDOM << 15 | RANDOM))
    if [[ ${1:-} == --seed ]]; then
        CRASH_SEED=${2:?"a seed"}
        shift 2
    fi
    export CRASH_KILLS=${1:-1000}
    [[ $CRASH_KILLS =~ ^[0-9]+$ ]] || usage
    echo "seed $CRASH_SEED"
    cargo test --quiet --profile "${PROFILE:-dev}" --test crash -- --nocapture
}

usage() {
    sed -n '2,/^$/s/^# \{0,1\}//p' "$0" >&2
    exit 2
}

main "$@"
