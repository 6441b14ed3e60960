#!/usr/bin/env bash
# Drives the broker at 127.0.0.1:PORT with mosquitto_pub and mosquitto_sub, in MQTT 3.1, 3.1.1
# and 5.0.
#
# usage: mosquitto.sh PORT
#
# Prints one line per scenario that holds; the first that does not ends the run with its error.
set -euo pipefail

readonly PORT=$1
readonly PATIENCE=10
# The shortest that mosquitto_sub allows.
readonly KEEP_ALIVE=5
readonly SCENARIOS=(
    connect qos_0_both_ways qos_1_both_ways qos_2_both_ways
    retained will resume wildcards unsubscribe takeover
)
# TLS as the environment asks for it: this version alone, and a certificate if it names one.
TLS=()
[[ -z ${TLS_VERSION:-} ]] || TLS=(--cafile "$TLS_CA" --tls-version "tlsv$TLS_VERSION")
[[ -z ${TLS_CERT:-} ]] || TLS+=(--cert "$TLS_CERT" --key "$TLS_KEY")
declare -rA VERSIONS=([3.1]=mqttv31 [3.1.1]=mqttv311 [5.0]=mqttv5)

# The versions run side by side, because most of the time goes by in waiting.
main() {
    local version
    trap 'kill $(jobs -p) 2>/dev/null || :' EXIT
    for version in "${!VERSIONS[@]}"; do
        drive &
    done
    for version in "${!VERSIONS[@]}"; do
        wait -n
    done
}

# The idle subscriber says nothing but PINGREQ while the scenarios run.
drive() {
    local scenario=idle idler
    trap 'kill -KILL "${PID[@]}" 2>/dev/null || :' EXIT
    begin idle
    listen idler t -q 1 -k "$KEEP_ALIVE"
    idler=$SUB
    for scenario in "${SCENARIOS[@]}"; do
        begin "$scenario"
        "$scenario"
        echo "ok $version ${scenario//_/ }"
    done
    begin idle
    is_kept_alive_by_pings "$idler"
    echo "ok $version keep alive"
}

# Each scenario has topics and Client Identifiers of its own.
begin() {
    TOPIC=mosquitto/$version/$1
    ID=$version-$1
}

# --- publishing ---------------------------------------------------------------------------------

# publish TOPIC QOS OPTION...: ends when the broker has acknowledged, for QoS 1 and 2.
publish() {
    local topic=$1 qos=$2
    shift 2
    client mosquitto_pub -t "$TOPIC/$topic" -q "$qos" "$@"
}

client() {
    timeout "$PATIENCE" "$1" -h 127.0.0.1 -p "$PORT" -V "${VERSIONS[$version]}" "${TLS[@]}" "${@:2}"
}

# --- subscribing --------------------------------------------------------------------------------

# A subscriber is a process whose lines are read through a descriptor. SUB names the newest of them.
declare -A PID

# listen ROLE FILTER OPTION...: a subscriber to one filter, ready when its SUBACK is here.
listen() {
    local role=$1 filter=$2
    shift 2
    start_subscriber "$role" -t "$TOPIC/$filter" "$@"
    hears "$SUB" "*received SUBACK*"
}

# subscribe_and_disconnect ROLE FILTER OPTION...: what comes later waits in a persistent session.
subscribe_and_disconnect() {
    client mosquitto_sub -E -i "$(client_id "$1")" -t "$TOPIC/$2" "${@:3}"
}

# With -d it tells what it sends and receives, between the messages in the form that -F gives.
start_subscriber() {
    local role=$1
    shift
    exec {SUB}< <(
        exec stdbuf -oL mosquitto_sub -h 127.0.0.1 -p "$PORT" -V "${VERSIONS[$version]}" \
            "${TLS[@]}" -i "$(client_id "$role")" -d -F 'message %t %q %r %p' "$@" 2>&1
    )
    PID[$SUB]=$!
}

# MQTT 3.1 allows 23 characters.
client_id() {
    local id=$ID-$1
    echo "${id:0:23}"
}

# hears SUB PATTERN: reads on until a line matches.
hears() {
    local line
    while IFS= read -r -t "$PATIENCE" -u "$1" line; do
        # shellcheck disable=SC2053 # The right side is a pattern.
        [[ $line != $2 ]] || return 0
    done
    fail "no line like «$2»"
}

# receives SUB TOPIC QOS RETAIN PAYLOAD: the next message is this one.
receives() {
    local line
    next_message "$1"
    [[ $line == "message $TOPIC/$2 $3 $4 $5" ]] ||
        fail "expected «${2} $3 $4 ${5:0:40}» (${#5}), not «${line:0:100}» (${#line})"
}

next_message() {
    while IFS= read -r -t "$PATIENCE" -u "$1" line; do
        [[ $line != message\ * ]] || return 0
    done
    fail "no message"
}

# leave SUB: it ends without DISCONNECT, and is given no chance to print a line twice, as it does
# when a milder signal meets it printing. A message that nobody expected makes the scenario fail.
leave() {
    local line
    kill -KILL "${PID[$1]}"
    while IFS= read -r -t "$PATIENCE" -u "$1" line; do
        [[ $line != message\ * ]] || fail "unexpected «${line:0:100}»"
    done
    forget "$1"
}

forget() {
    wait "${PID[$1]}" || :
    unset "PID[$1]"
    local descriptor=$1
    exec {descriptor}<&-
}

fail() {
    echo "$version ${scenario}, line ${BASH_LINENO[1]}: $*" >&2
    exit 1
}

# --- scenarios ----------------------------------------------------------------------------------

is_kept_alive_by_pings() {
    hears "$1" "*received PINGRESP*"
    publish t 1 -m "still here"
    receives "$1" t 1 0 "still here"
    leave "$1"
}

connect() {
    client mosquitto_pub -i "$(client_id a)" -t "$TOPIC/t" -m hello -d |
        grep -F "received CONNACK (0)" >/dev/null
    # Without a name of its own; MQTT 3.1 has mosquitto_pub invent one.
    publish t 1 -m hello
}

qos_0_both_ways() {
    messages_arrive_in_order 0
}

qos_1_both_ways() {
    messages_arrive_in_order 1
}

qos_2_both_ways() {
    messages_arrive_in_order 2
}

messages_arrive_in_order() {
    local qos=$1 sub number
    listen bob t -q "$qos"
    sub=$SUB
    one_of_each_size_arrives "$sub" "$qos"
    seq -f %010.0f 20 | publish t "$qos" -l
    for number in $(seq -f %010.0f 20); do
        receives "$sub" t "$qos" 0 "$number"
    done
    leave "$sub"
}

one_of_each_size_arrives() {
    local sub=$1 qos=$2 large
    large=$(head -c 102400 /dev/zero | tr '\0' x)
    publish t "$qos" -n
    receives "$sub" t "$qos" 0 ""
    printf %s "$large" | publish t "$qos" -s
    receives "$sub" t "$qos" 0 "$large"
}

retained() {
    local watcher payload
    listen watcher t -q 1
    watcher=$SUB
    for payload in first second; do
        publish t 1 -r -m "$payload"
        receives "$watcher" t 1 0 "$payload"
        a_late_subscriber_receives "$payload"
    done
    publish t 1 -r -n
    receives "$watcher" t 1 0 ""
    nothing_is_retained
    receives "$watcher" t 1 0 live
    leave "$watcher"
}

a_late_subscriber_receives() {
    listen late '#' -q 1
    receives "$SUB" t 1 1 "$1"
    leave "$SUB"
}

nothing_is_retained() {
    listen late '#' -q 1
    publish t 1 -m live
    receives "$SUB" t 1 0 live
    leave "$SUB"
}

will() {
    local watcher
    listen watcher '+' -q 1
    watcher=$SUB
    publish ended 1 -m bye --will-topic "$TOPIC/polite" --will-payload unsaid --will-qos 1
    receives "$watcher" ended 1 0 bye
    listen abrupt nothing --will-topic "$TOPIC/abrupt" --will-payload said --will-qos 1
    leave "$SUB"
    receives "$watcher" abrupt 1 0 said
    leave "$watcher"
}

resume() {
    local qos number expiry=()
    [[ $version != 5.0 ]] || expiry=(-x 3600)
    subscribe_and_disconnect bob '+' -q 2 -c "${expiry[@]}"
    for qos in 1 2; do
        seq 10 | publish "$qos" "$qos" -l
    done
    # It names another filter, so what it receives of the first comes from the session.
    start_subscriber bob -t "$TOPIC/more/levels" -q 2 -c "${expiry[@]}"
    receives_what_was_missed "$SUB"
    leave "$SUB"
    # A clean start ends the session, subscriptions and all.
    listen bob other -q 1
    publish 1 1 -m "to nobody"
    publish other 1 -m "to somebody"
    receives "$SUB" other 1 0 "to somebody"
    leave "$SUB"
}

# In order within each topic; the two topics may mix.
receives_what_was_missed() {
    local qos topic payload number line
    local -A received=([1]="" [2]="")
    for ((number = 0; number < 20; number++)); do
        next_message "$1"
        read -r _ topic qos _ payload <<<"$line"
        [[ $topic == "$TOPIC/$qos" ]] || fail "QoS $qos for $topic"
        received[$qos]+="$payload "
    done
    for qos in 1 2; do
        [[ ${received[$qos]} == "1 2 3 4 5 6 7 8 9 10 " ]] || fail "QoS $qos: ${received[$qos]}"
    done
}

wildcards() {
    local bob name matching=(one/a/end one//end many many/a many/a/b)
    start_subscriber bob -q 1 -t "$TOPIC/one/+/end" -t "$TOPIC/many/#"
    bob=$SUB
    hears "$bob" "*received SUBACK*"
    for name in one/end one/a/b/end one/a manya "${matching[@]}"; do
        publish "$name" 1 -m "$name"
    done
    for name in "${matching[@]}"; do
        receives "$bob" "$name" 1 0 "$name"
    done
    leave "$bob"
}

unsubscribe() {
    local expiry=()
    [[ $version != 5.0 ]] || expiry=(-x 3600)
    listen bob left -q 1 -c "${expiry[@]}"
    publish left 1 -m 1
    receives "$SUB" left 1 0 1
    leave "$SUB"
    start_subscriber bob -U "$TOPIC/left" -t "$TOPIC/kept" -q 1 -c "${expiry[@]}"
    hears "$SUB" "*received UNSUBACK*"
    publish left 1 -m 2
    publish kept 1 -m 3
    receives "$SUB" kept 1 0 3
    leave "$SUB"
    subscribe_and_disconnect bob nothing
}

# Told that another has taken its place, mosquitto_sub ends. Not told why the connection has ended,
# it comes back and takes its place again; Debian's mosquitto never says why.
takeover() {
    listen same t -q 1
    publish elsewhere 1 -m "from the other" -i "$(client_id same)"
    if [[ $version == 5.0 && ${BROKER:-} != mosquitto ]]; then
        hears "$SUB" "Received DISCONNECT (142)*"
        return
    fi
    hears "$SUB" "*sending CONNECT*"
    hears "$SUB" "*received SUBACK*"
    publish t 1 -m "from a third"
    receives "$SUB" t 1 0 "from a third"
    leave "$SUB"
}

main
