# shellcheck shell=bash disable=SC2034,SC2154 # Its reader knows the names.
# The brokers that scripts/compare.sh measures, each by three functions:
#
#   install_NAME       from its registry, if it is not here yet
#   version_NAME       prints its version
#   command_NAME PORT  sets `command` to what runs it on 127.0.0.1:PORT
#
# All of them get the same: all in memory, no log, no limit in the way, one core. What listens on a
# port of its own choice (ringmq and the relay) says so on its output.

readonly BROKERS=(ringmq relay mosquitto rumqttd rmqtt aedes amqtt ringmq2)

# offers BROKER NEED: which workloads it can run.
offers() {
    case $1 in
        ringmq) return 0 ;;
        ringmq2) [[ $2 == shards ]] ;;
        relay) [[ $2 =~ ^(qos0|flood)$ ]] ;;
        mosquitto) [[ $2 != shards ]] ;;
        rumqttd | rmqtt) [[ $2 =~ ^(qos0|flood|ack|topics|share|retain)$ ]] ;;
        aedes) [[ $2 =~ ^(qos0|flood|ack|topics|retain)$ ]] ;;
        # It would take minutes for a flood, or for ten thousand connections.
        amqtt) [[ $2 =~ ^(qos0|ack|retain)$ ]] ;;
    esac
}

install_ringmq() {
    cargo build --quiet --profile "$PROFILE" --package ringmq --package loadtest
}

version_ringmq() {
    "$BUILT/ringmq" --version | cut -d ' ' -f 2
}

command_ringmq() {
    command=("$BUILT/ringmq" --shards 1 --cpus "$BROKER_CPU" "${RINGMQ_FLAGS[@]}")
}

readonly RINGMQ_FLAGS=(--listen 127.0.0.1:0 --log error --sys-interval 0
    --max-packet-size 4MiB --outbox-bytes 16MiB --max-inflight 100 --max-queued 1000000)

# On two shards, so on two cores.
install_ringmq2() { install_ringmq; }
version_ringmq2() { version_ringmq; }
command_ringmq2() {
    pin=()
    command=("$BUILT/ringmq" --shards 2 --cpus "$BROKER_CPU,$SECOND_CPU" "${RINGMQ_FLAGS[@]}")
}

# ringmq's runtime without MQTT. The file name of a bench has a hash in it, so cargo is asked for it.
install_relay() {
    relay=$(cargo build --quiet --profile "$PROFILE" --bench null_relay --message-format json |
        sed -n '/"name":"null_relay"/s/.*"executable":"\([^"]*\)".*/\1/p')
}

version_relay() { version_ringmq; }

command_relay() {
    command=("$relay" --serve "$BROKER_CPU")
}

install_mosquitto() {
    has mosquitto || apt_install mosquitto
}

version_mosquitto() {
    { "$MOSQUITTO" -h || true; } | sed -n '1s/^mosquitto version //p'
}

command_mosquitto() {
    sed "s/@PORT@/$1/" "$PEERS/mosquitto.conf" >"$scratch/mosquitto.conf"
    command=("$MOSQUITTO" -c "$scratch/mosquitto.conf")
}

install_rumqttd() { build_peer rumqttd; }
version_rumqttd() { version_of_crate rumqttd; }

command_rumqttd() {
    command=("$INSTALLED/rumqttd/release/rumqttd-peer" "$1")
}

# Its own server comes with clients for half a dozen databases; ours is the library and no more.
install_rmqtt() { build_peer rmqtt; }
version_rmqtt() { version_of_crate rmqtt; }

command_rmqtt() {
    command=("$INSTALLED/rmqtt/release/rmqtt-peer" "$1")
}

install_aedes() {
    has npm || apt_install nodejs npm
    mkdir -p "$INSTALLED/aedes"
    cmp --quiet "$PEERS/aedes/package-lock.json" "$INSTALLED/aedes/installed" && return
    cp "$PEERS/aedes"/package*.json "$INSTALLED/aedes"
    npm ci --prefix "$INSTALLED/aedes" --silent --ignore-scripts --no-audit --no-fund
    cp "$PEERS/aedes/package-lock.json" "$INSTALLED/aedes/installed"
}

version_aedes() {
    sed -n 's/.*"aedes": "\(.*\)".*/\1/p' "$PEERS/aedes/package.json"
}

command_aedes() {
    cp "$PEERS/aedes/broker.mjs" "$INSTALLED/aedes"
    command=(node "$INSTALLED/aedes/broker.mjs" "$1")
}

install_amqtt() {
    cmp --quiet "$PEERS/amqtt/requirements.txt" "$INSTALLED/amqtt/installed" && return
    python3 -c 'import ensurepip, venv' 2>/dev/null || apt_install python3-venv
    python3 -m venv --clear "$INSTALLED/amqtt"
    "$INSTALLED/amqtt/bin/pip" install --quiet --disable-pip-version-check \
        --requirement "$PEERS/amqtt/requirements.txt"
    cp "$PEERS/amqtt/requirements.txt" "$INSTALLED/amqtt/installed"
}

version_amqtt() {
    sed -n 's/^amqtt==//p' "$PEERS/amqtt/requirements.txt"
}

command_amqtt() {
    command=("$INSTALLED/amqtt/bin/python" "$PEERS/amqtt/broker.py" "$1")
}

# build_peer CRATE: the program around that crate, which pins all that it needs.
build_peer() {
    cargo build --quiet --locked --release --manifest-path "$PEERS/$1/Cargo.toml" \
        --target-dir "$INSTALLED/$1"
}

version_of_crate() {
    sed -n "s/^$1 = .*\"=\([0-9.]*\)\".*/\1/p" "$PEERS/$1/Cargo.toml"
}
