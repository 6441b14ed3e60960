#!/usr/bin/env bash
# Runs the tests that take too long for scripts/test.sh, and says how many minutes each part took.
#
#   scripts/long.sh              all parts
#   scripts/long.sh PART...      these ones: package, simulate, crash, fuzz
set -euo pipefail

cd "$(dirname "$0")/.."
readonly PARTS=(package simulate crash fuzz)

main() {
    [[ $# -gt 0 ]] || set -- "${PARTS[@]}"
    local part
    for part; do
        run "$part"
    done
}

run() {
    local began=$SECONDS
    case $1 in
    package) scripts/package_test.sh --clean ;;
    simulate | crash) "scripts/$1.sh" ;;
    fuzz) fuzz ;;
    *)
        echo "long.sh: there is no part $1: ${PARTS[*]}" >&2
        exit 2
        ;;
    esac
    echo "long.sh: $1 took $(((SECONDS - began + 30) / 60)) minutes"
}

fuzz() {
    local target
    for target in acl config frame jwt mosquitto packet proxy topic session store trie wheel; do
        scripts/fuzz.sh "$target" 300
    done
}

main "$@"
