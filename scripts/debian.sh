# shellcheck shell=bash
# Installs Debian packages, as root or with sudo, and does not start servers that they contain. The
# script that sources this file must define `say` (prints a message) and `fail` (prints and exits).

readonly POLICY=/usr/sbin/policy-rc.d
# Debian keeps servers such as mosquitto out of an ordinary user's path.
export PATH="$PATH:/usr/sbin:/sbin"

has() {
    command -v "$1" >/dev/null
}

# In a shell of its own, so that its trap is over when it is.
apt_install() (
    has apt-get || fail "please install: $*"
    become_root || fail "not root and no sudo; please install: $*"
    say "installing Debian packages: $*"
    keep_services_stopped
    "${AS_ROOT[@]}" env DEBIAN_FRONTEND=noninteractive apt-get update -qq
    "${AS_ROOT[@]}" env DEBIAN_FRONTEND=noninteractive \
        apt-get install -qq --yes --no-install-recommends --no-upgrade "$@" >/dev/null
    forget_service mosquitto "$@"
    forget_service prometheus "$@"
)

AS_ROOT=()
become_root() {
    [[ $(id -u) -ne 0 ]] || return 0
    AS_ROOT=(sudo)
    has sudo && { sudo -n true 2>/dev/null || [[ -t 0 ]]; }
}

# Installing a server on Debian starts it, unless this file says no. One that exists is kept.
keep_services_stopped() {
    [[ ! -e $POLICY ]] || return 0
    trap '"${AS_ROOT[@]}" rm -f "$POLICY"' EXIT
    printf '#!/bin/sh\nexit 101\n' | "${AS_ROOT[@]}" tee "$POLICY" >/dev/null
    "${AS_ROOT[@]}" chmod +x "$POLICY"
}

# A server that came only for tests does not start with the machine either.
forget_service() {
    local service=$1 package
    shift
    [[ -d /run/systemd/system ]] || return 0
    for package in "$@"; do
        [[ $package != "$service" ]] ||
            "${AS_ROOT[@]}" systemctl --quiet disable "$service.service"
    done
}
