#!/usr/bin/env python3
"""Prints the licences of the crates that the program contains, each text once."""

import hashlib
import json
import pathlib
import subprocess
import sys

NAMES = ("LICENSE", "LICENCE", "COPYING", "COPYRIGHT", "NOTICE", "UNLICENSE")


def main():
    crates = sorted(contained(), key=lambda crate: (crate["name"], crate["version"]))
    texts = {}
    print("ringmq contains these crates:\n")
    for crate in crates:
        print(f"  {crate['name']} {crate['version']}: {crate['license'] or 'see its text'}")
        for text in licences(crate):
            digest = hashlib.sha256(text.encode()).digest()
            texts.setdefault(digest, (text, []))[1].append(crate["name"])
    for text, names in texts.values():
        print(f"\n{'=' * 80}\n{', '.join(sorted(set(names)))}\n{'=' * 80}\n\n{text.strip()}")
    if len(crates) < 10 or not texts:
        sys.exit("licences.py: cargo says nothing of the crates")


def contained():
    """The crates of other authors that are linked into the program."""
    host = next(
        line.split()[1]
        for line in output("rustc", "-vV").splitlines()
        if line.startswith("host:")
    )
    metadata = json.loads(
        output("cargo", "metadata", "--locked", "--format-version=1", "--filter-platform", host)
    )
    packages = {package["id"]: package for package in metadata["packages"]}
    nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}
    own = set(metadata["workspace_members"])
    start = next(one for one in own if packages[one]["name"] == "ringmq")
    seen, todo = set(), [start]
    while todo:
        node = todo.pop()
        if node not in seen:
            seen.add(node)
            todo += [
                dependency["pkg"]
                for dependency in nodes[node]["deps"]
                if any(kind["kind"] is None for kind in dependency["dep_kinds"])
            ]
    return [packages[one] for one in seen - own]


def licences(crate):
    folder = pathlib.Path(crate["manifest_path"]).parent
    for path in sorted(folder.iterdir()):
        if path.is_file() and path.name.upper().startswith(NAMES):
            yield path.read_text(errors="replace")


def output(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


main()
