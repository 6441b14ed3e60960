#!/usr/bin/env bash
# Searches for inputs that make a fuzz target fail. See docs/simulation.md.
#
#   scripts/fuzz.sh TARGET [SECONDS]   TARGET: acl, config, frame, jwt, mosquitto, packet, proxy,
#                                      topic, session, store, trie or wheel; default: 60 s
#
# An input that reaches new code is added to the corpus, and inputs that are no longer needed are
# removed. An input that fails is kept in target/fuzz/TARGET.failed.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly HOST=x86_64-unknown-linux-gnu
readonly WORK=target/fuzz

main() {
    [[ $# -ge 1 && -f tests/fuzz/corpus/$1.hex ]] || usage
    export TARGET=$1
    local seconds=${2:-60} known=$WORK/$TARGET found=$WORK/$TARGET.found
    build
    rm -rf "$known" "$found"
    mkdir -p "$known" "$found" "$WORK/$TARGET.failed"
    unpack "$known"
    fuzz -max_total_time="$seconds" "$known"
    fuzz -set_cover_merge=1 "$found" "$known"
    pack "$found"
}

# Counters of edges and of comparisons, as libFuzzer reads them; the stable compiler has them.
build() {
    local flags=(-Cpasses=sancov-module)
    local option
    for option in level=4 inline-8bit-counters pc-table trace-compares; do
        flags+=("-Cllvm-args=-sanitizer-coverage-$option")
    done
    RUSTFLAGS="${flags[*]}" cargo build --quiet --release --manifest-path fuzz/Cargo.toml \
        --target "$HOST" --target-dir "$WORK/build"
}

fuzz() {
    "$WORK/build/$HOST/release/fuzz" -max_len=400 -timeout=10 -verbosity=0 \
        -print_final_stats=1 -artifact_prefix="$WORK/$TARGET.failed/" "$@"
}

# The corpus is one line of hexadecimal digits for each input, libFuzzer wants one file for each.
unpack() {
    python3 - "$1" "tests/fuzz/corpus/$TARGET.hex" <<'PYTHON'
import pathlib, sys
folder, corpus = map(pathlib.Path, sys.argv[1:])
for number, line in enumerate(corpus.read_text().split()):
    (folder / str(number)).write_bytes(bytes.fromhex(line))
PYTHON
}

pack() {
    python3 - "$1" "tests/fuzz/corpus/$TARGET.hex" <<'PYTHON'
import pathlib, sys
folder, corpus = map(pathlib.Path, sys.argv[1:])
inputs = {path.read_bytes().hex() for path in folder.iterdir()} - {""}
corpus.write_text("".join(f"{line}\n" for line in sorted(inputs, key=lambda it: (len(it), it))))
PYTHON
}

usage() {
    sed -n '2,/^$/s/^# \{0,1\}//p' "$0" >&2
    exit 2
}

main "$@"
