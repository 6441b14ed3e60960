#!/usr/bin/env bash
# Builds the Debian package, target/package/ringmq_VERSION_ARCHITECTURE.deb, and prints its path.
#
#   scripts/package.sh                the package of a release build, which takes minutes
#   scripts/package.sh --binary PATH  the package of a program that is built already, for tests: it
#                                     is compressed quickly
set -euo pipefail

cd "$(dirname "$0")/.."
readonly OUT=target/package
readonly TREE=$OUT/tree
# shellcheck source=scripts/debian.sh
source scripts/debian.sh

main() {
    local binary
    binary=$(binary_of "$@")
    has dpkg-shlibdeps && has strip || apt_install dpkg-dev binutils >&2
    rm -rf "$OUT"
    mkdir -p "$TREE"
    # Two builds of one commit give the same package.
    SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)
    export SOURCE_DATE_EPOCH
    add_program "$binary"
    add_files "$binary"
    add_documents "$binary"
    add_control "$binary"
    local quickly=()
    [[ $# -eq 0 ]] || quickly=(-Zgzip -z1)
    dpkg-deb --root-owner-group "${quickly[@]}" --build "$TREE" "$OUT" >&2
    ls "$PWD/$OUT"/*.deb
}

binary_of() {
    case "${1-}" in
    --binary) echo "$2" ;;
    '')
        cargo build --release --locked --bin ringmq >&2
        echo target/release/ringmq
        ;;
    *) fail "usage: scripts/package.sh [--binary PATH]" ;;
    esac
}

add_program() {
    install -D -m 755 "$1" "$TREE/usr/bin/ringmq"
    strip --remove-section=.comment "$TREE/usr/bin/ringmq"
}

add_files() {
    put packaging/ringmq.service usr/lib/systemd/system/ringmq.service
    put packaging/debian/lintian-overrides usr/share/lintian/overrides/ringmq
    mkdir -p "$TREE/etc/ringmq"
    configuration >"$TREE/etc/ringmq/ringmq.toml"
    chmod 644 "$TREE/etc/ringmq/ringmq.toml"
    completions "$1" bash usr/share/bash-completion/completions/ringmq
    completions "$1" zsh usr/share/zsh/vendor-completions/_ringmq
    completions "$1" fish usr/share/fish/vendor_completions.d/ringmq.fish
}

put() {
    install -D -m 644 "$1" "$TREE/$2"
}

# The default file, with the data directory that the unit makes.
configuration() {
    sed 's|^#data-dir = .*|data-dir = "/var/lib/ringmq"|' packaging/ringmq.toml |
        grep -C1000000 '^data-dir = "/var/lib/ringmq"$'
}

completions() {
    mkdir -p "$TREE/$(dirname "$3")"
    "$1" completions "$2" >"$TREE/$3"
    chmod 644 "$TREE/$3"
}

add_documents() {
    "$1" man "$TREE/usr/share/man/man1"
    gzip -9n "$TREE"/usr/share/man/man1/*
    chmod 644 "$TREE"/usr/share/man/man1/*
    local documents=$TREE/usr/share/doc/ringmq
    put packaging/debian/copyright usr/share/doc/ringmq/copyright
    filled packaging/debian/changelog "$1" | gzip -9n >"$documents/changelog.gz"
    scripts/licences.py | gzip -9n >"$documents/crates.gz"
    chmod 644 "$documents"/*
}

add_control() {
    mkdir -p "$TREE/DEBIAN"
    filled packaging/debian/control "$1" >"$TREE/DEBIAN/control"
    put packaging/debian/conffiles DEBIAN/conffiles
    local script
    for script in postinst prerm postrm; do
        install -m 755 "packaging/debian/$script" "$TREE/DEBIAN/$script"
    done
    (cd "$TREE" && find . -type f ! -path './DEBIAN/*' ! -path './etc/*' -printf '%P\0' |
        sort -z | xargs -0 md5sum) >"$TREE/DEBIAN/md5sums"
    chmod 644 "$TREE/DEBIAN/md5sums" "$TREE/DEBIAN/control"
}

# A file of packaging/debian with what is known only now.
filled() {
    local version
    version=$("$2" --version)
    sed -e "s|@VERSION@|${version#ringmq }|" \
        -e "s|@ARCHITECTURE@|$(dpkg --print-architecture)|" \
        -e "s|@SIZE@|$(du -k --apparent-size -s "$TREE" | cut -f1)|" \
        -e "s|@DATE@|$(date -u -R -d "@$SOURCE_DATE_EPOCH")|" \
        -e "s|@DEPENDS@|$(libraries)|" "$1"
}

# The packages of the shared libraries that the program needs.
libraries() {
    local folder=$OUT/shlibdeps
    mkdir -p "$folder/debian"
    printf 'Source: ringmq\n\nPackage: ringmq\nArchitecture: any\n' >"$folder/debian/control"
    (cd "$folder" && dpkg-shlibdeps -O ../tree/usr/bin/ringmq 2>/dev/null) |
        sed -n 's/^shlibs:Depends=//p'
}

say() {
    echo "package.sh: $*" >&2
}

fail() {
    echo "package.sh: $*" >&2
    exit 1
}

main "$@"
