# shellcheck shell=bash
# Waits for what a program writes. The script that sources this file has the banner of its broker in
# $scratch/banner.

# await_line WORDS FILE: for up to ten seconds.
await_line() {
    local _
    for _ in {1..100}; do
        ! grep -qs "$1" "$2" || return 0
        sleep 0.1
    done
    echo "«$1» does not come" >&2
    exit 1
}

# Prints the port of the broker, once it listens.
await_port() {
    await_line 'listening on' "$scratch/banner"
    sed -n 's/^listening on .*:\([0-9]*\)$/\1/p' "$scratch/banner"
}
