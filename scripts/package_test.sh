#!/usr/bin/env bash
# Builds the Debian package, installs it into a tree, starts the command of its unit there, and
# removes it again. Needs root or sudo.
#
#   scripts/package_test.sh --binary PATH    with a program that is built already, in a copy of the
#                                            system that runs; takes half a minute
#   scripts/package_test.sh --clean          with a release build, in a new system by debootstrap,
#                                            with lintian; takes minutes
#   scripts/package_test.sh --clean --binary PATH
set -euo pipefail

cd "$(dirname "$0")/.."
# shellcheck source=scripts/debian.sh
source scripts/debian.sh

main() {
    clean=
    [[ ${1-} != --clean ]] || { clean=yes; shift; }
    [[ ($# -eq 0 && -n $clean) || ($# -eq 2 && $1 == --binary && -x $2) ]] ||
        fail "usage: scripts/package_test.sh [--clean] [--binary PATH]"
    if [[ -z ${PACKAGE_TEST_APART-} ]]; then
        install_tools
        become_root || fail "not root and no sudo"
        # Mounts of this script are seen by nobody else, and go when it ends.
        exec "${AS_ROOT[@]}" env "PATH=$PATH" "HOME=$HOME" PACKAGE_TEST_APART=1 \
            unshare --mount "$0" ${clean:+--clean} "$@"
    fi
    scratch=$(mktemp -d)
    tree=$scratch/tree
    broker=
    trap clean_up EXIT
    deb=$(scripts/package.sh "$@")
    lint
    if [[ -n $clean ]]; then make_new_tree; else make_copied_tree; fi
    cp "$deb" "$tree/ringmq.deb"
    check_package
    say "the package is good: $(basename "$deb")"
}

install_tools() {
    local missing=()
    has systemd-analyze || missing+=(systemd)
    has mosquitto_pub || missing+=(mosquitto-clients)
    has dpkg-shlibdeps || missing+=(dpkg-dev)
    has strip || missing+=(binutils)
    if [[ -n $clean ]]; then
        has lintian || missing+=(lintian)
        has debootstrap || missing+=(debootstrap)
    fi
    [[ ${#missing[@]} -eq 0 ]] || apt_install "${missing[@]}"
}

clean_up() {
    [[ -z $broker ]] || kill -KILL "$broker" 2>/dev/null || true
    local mount
    for mount in tree/run tree/proc tree/sys tree/dev tree changes; do
        umount --lazy "$scratch/$mount" 2>/dev/null || true
    done
    rm -rf --one-file-system "$scratch"
}

# Where lintian is installed.
lint() {
    ! has lintian || lintian --allow-root --fail-on error,warning "$deb" 2>&1 || fail "lintian"
}

# The system of this machine; what is written to it is kept in memory and then forgotten.
make_copied_tree() {
    mkdir -p "$tree" "$scratch/changes"
    mount -t tmpfs tmpfs "$scratch/changes"
    mkdir "$scratch/changes/upper" "$scratch/changes/work"
    mount -t overlay overlay "$tree" \
        -o "lowerdir=/,upperdir=$scratch/changes/upper,workdir=$scratch/changes/work"
    mount_system
    install_deb=(dpkg --install)
}

make_new_tree() {
    # shellcheck disable=SC1091
    local release
    release=$(. /etc/os-release && echo "$VERSION_CODENAME")
    debootstrap --variant=minbase --include=systemd "$release" "$tree" >"$scratch/debootstrap.log" ||
        { tail -5 "$scratch/debootstrap.log"; fail "no new system can be had"; }
    mount_system
    install_deb=(apt-get install -qq --yes --no-install-recommends)
}

mount_system() {
    mount --bind /dev "$tree/dev"
    mount --bind /sys "$tree/sys"
    mount -t proc proc "$tree/proc"
    mount -t tmpfs tmpfs "$tree/run"
}

check_package() {
    install_package
    check_files
    check_unit
    start_broker
    mosquitto_pub -h 127.0.0.1 -p "$port" -q 1 -r -t package/test -m survives
    check_status
    stop_broker
    # A removed package leaves what its owner has written and the broker has kept.
    echo '# a line of the owner' >>"$tree/etc/ringmq/ringmq.toml"
    in_tree dpkg --remove ringmq >/dev/null
    [[ ! -e $tree/usr/bin/ringmq && ! -e $tree/etc/systemd/system/multi-user.target.wants/ringmq.service ]] ||
        fail "a removed package is still there"
    install_package
    grep -q '^# a line of the owner' "$tree/etc/ringmq/ringmq.toml" || fail "the owner's line is lost"
    start_broker
    local kept
    kept=$(mosquitto_sub -h 127.0.0.1 -p "$port" -t package/test -C 1 -W 10)
    [[ $kept == survives ]] || fail "the retained message is lost: $kept"
    stop_broker
    purge_package
}

in_tree() {
    chroot "$tree" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin DEBIAN_FRONTEND=noninteractive "$@"
}

install_package() {
    in_tree "${install_deb[@]}" /ringmq.deb >"$scratch/install.log" 2>&1 ||
        { cat "$scratch/install.log"; fail "the package cannot be installed"; }
}

check_files() {
    [[ -z $(in_tree dpkg --verify ringmq) ]] || fail "files are not as in the package"
    in_tree ringmq check --config /etc/ringmq/ringmq.toml >/dev/null
    [[ $(in_tree stat -c '%U:%G %a' /var/lib/ringmq) == 'ringmq:ringmq 700' ]] ||
        fail "the data directory is another one's"
    [[ -L $tree/etc/systemd/system/multi-user.target.wants/ringmq.service ]] ||
        fail "the unit is not enabled"
    local document
    # Small systems leave the documents of packages out.
    for document in man/man1/ringmq-kick.1.gz doc/ringmq/copyright doc/ringmq/crates.gz \
        bash-completion/completions/ringmq zsh/vendor-completions/_ringmq; do
        dpkg-deb --fsys-tarfile "$deb" | tar -t "./usr/share/$document" >/dev/null ||
            fail "the package has no $document"
    done
}

# What the unit gives the broker beyond its program is judged by systemd.
check_unit() {
    local complaints
    complaints=$(systemd-analyze --root="$tree" verify ringmq.service 2>&1 |
        grep -i ringmq || true)
    [[ -z $complaints ]] || fail "$complaints"
    systemd-analyze --root="$tree" --offline=true --threshold=40 security ringmq.service \
        >"$scratch/security" || { cat "$scratch/security"; fail "the unit is too open"; }
}

# The value of a key of the installed unit.
unit() {
    sed -n "s/^$1=//p" "$tree/usr/lib/systemd/system/ringmq.service"
}

# As the unit does it, but on a port that the kernel chooses. Its limits are taken as far as this
# machine lets root raise them.
start_broker() {
    local user command
    user=$(unit User)
    read -ra command <<<"$(unit ExecStart)"
    in_tree install -d -m 0755 -o "$user" -g "$(unit Group)" /run/ringmq
    : >"$scratch/banner"
    ulimit -l 65536 2>/dev/null || true
    ulimit -n "$(unit LimitNOFILE)" 2>/dev/null || true
    chroot --userspec="$user:$(unit Group)" "$tree" \
        env -i PATH=/usr/bin:/bin RUNTIME_DIRECTORY=/run/ringmq RINGMQ_LISTEN=0 \
        "${command[@]}" >"$scratch/banner" 2>"$scratch/log" &
    broker=$!
    local _
    for _ in {1..100}; do
        port=$(sed -n 's/^listening on 127.0.0.1:\([0-9]*\)$/\1/p' "$scratch/banner")
        [[ -z $port ]] || return 0
        kill -0 "$broker" 2>/dev/null || break
        sleep 0.1
    done
    cat "$scratch/banner" "$scratch/log"
    fail "the broker does not start"
}

# root needs no token and no flag.
check_status() {
    in_tree ringmq status >"$scratch/status"
    grep -Eq '^retained messages +1$' "$scratch/status" && grep -Eq '^store +ok$' "$scratch/status" ||
        { cat "$scratch/status"; fail "the status is not that of this broker"; }
}

stop_broker() {
    kill -TERM "$broker"
    local status=0
    wait "$broker" || status=$?
    broker=
    [[ $status -eq 0 ]] || { cat "$scratch/log"; fail "the broker ends with status $status"; }
}

purge_package() {
    in_tree dpkg --purge ringmq >/dev/null
    rm "$tree/ringmq.deb"
    local left
    left=$(find "$tree/etc" "$tree/usr" "$tree/var" "$tree/run" -xdev -name '*ringmq*' \
        -newer "$scratch/install.log" -o -xdev -path '*etc/ringmq*' -o -xdev -path '*lib/ringmq*')
    [[ -z $left ]] || fail "a purge leaves: $left"
    ! in_tree getent passwd ringmq || fail "a purge leaves the user"
    ! in_tree getent group ringmq || fail "a purge leaves the group"
}

say() {
    echo "package_test.sh: $*"
}

fail() {
    echo "package_test.sh: $*" >&2
    exit 1
}

main "$@"
