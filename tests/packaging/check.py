#!/usr/bin/env python3
"""Checks what containers are made of: check.py RINGMQ FOLDER, from the root of the repository.

RINGMQ is a program, FOLDER a place for files.
"""

import json
import os
import pathlib
import signal
import subprocess
import sys

import helm_python as helm
import yaml

CHART = "packaging/helm/ringmq"
PROFILE = "packaging/docker/seccomp.json"
URING = {"io_uring_setup", "io_uring_enter", "io_uring_register"}


def main():
    ringmq, folder = sys.argv[1], pathlib.Path(sys.argv[2])
    check_dockerfile()
    check_compose()
    check_chart(ringmq, folder)
    check_seccomp(ringmq, folder)
    print("all is well")


def check_dockerfile():
    hadolint = pathlib.Path(sys.executable).parent / "hadolint"
    run(hadolint, "Dockerfile")
    dockerfile = pathlib.Path("Dockerfile").read_text()
    for line in dockerfile.splitlines():
        if line.startswith("COPY packaging"):
            assert os.path.exists(line.split()[1]), line
    assert "USER 10001" in dockerfile and '["ringmq", "status"]' in dockerfile


def check_compose():
    service = yaml.safe_load(pathlib.Path("compose.yaml").read_text())["services"]["ringmq"]
    assert f"seccomp={PROFILE}" in service["security_opt"]
    assert all(port.startswith("127.0.0.1:") for port in service["ports"])
    profile = json.loads(pathlib.Path(PROFILE).read_text())
    allowed = {name for rule in profile["syscalls"] for name in rule["names"]}
    assert URING <= allowed


def check_chart(ringmq, folder):
    for file in sorted(pathlib.Path(CHART, "ci").iterdir()):
        values = yaml.safe_load(file.read_text())
        found = helm.lint(CHART, values, strict=True)
        # An icon is all that may be missed.
        assert not found["errors"] and all(
            message["severity"] < 2 for message in found["messages"]
        ), found
        check_manifests(ringmq, folder, render(values))
    try:
        render({})
    except helm.HelmError as error:
        assert "nobody could connect" in str(error), error
    else:
        raise AssertionError("a chart without users and without anonymous clients is rendered")


def render(values):
    """The manifests by their kind."""
    with helm.Chart.load(CHART) as chart:
        files = chart.render(values, name="test", namespace="default")
    texts = (text for name, text in files.items() if name.endswith(".yaml"))
    manifests = (one for text in texts for one in yaml.safe_load_all(text) if one)
    return {one["kind"]: one for one in manifests}


def check_manifests(ringmq, folder, manifests):
    pod = manifests["StatefulSet"]["spec"]["template"]["spec"]
    container = pod["containers"][0]
    assert container["livenessProbe"]["httpGet"]["path"] == "/healthz"
    assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"
    claimed = {one["metadata"]["name"] for one in manifests["StatefulSet"]["spec"]["volumeClaimTemplates"]}
    volumes = claimed | {volume["name"] for volume in pod["volumes"]}
    for one in pod["containers"] + pod["initContainers"]:
        assert {mount["name"] for mount in one["volumeMounts"]} <= volumes
    ports = {port["name"] for port in container["ports"]}
    assert {port["targetPort"] for port in manifests["Service"]["spec"]["ports"]} <= ports
    assert manifests["Service"]["spec"]["selector"].items() <= (
        manifests["StatefulSet"]["spec"]["template"]["metadata"]["labels"].items()
    )
    check_config(ringmq, folder, manifests["ConfigMap"]["data"]["ringmq.toml"])


def check_config(ringmq, folder, text):
    """The broker takes it, if the files are there that the pod mounts."""
    (folder / "tokens").write_text("reader 0123456789abcdef\n")
    (folder / "tokens").chmod(0o600)
    (folder / "passwords").write_text("")
    for path, file in {
        "/run/ringmq/tokens": folder / "tokens",
        "/etc/ringmq/users/passwords": folder / "passwords",
        "/etc/ringmq/tls/tls.crt": pathlib.Path("tests/tls/server.pem").resolve(),
        "/etc/ringmq/tls/tls.key": pathlib.Path("tests/tls/server-key.pem").resolve(),
        "/var/lib/ringmq": folder / "data",
    }.items():
        text = text.replace(path, str(file))
    config = folder / "ringmq.toml"
    config.write_text(text)
    run(ringmq, "check", "--config", config)


def check_seccomp(ringmq, folder):
    """Under the profile a broker takes io_uring. Where that is forbidden, it takes epoll."""
    start_under(PROFILE, ringmq, "ring", "by io_uring")
    profile = json.loads(pathlib.Path(PROFILE).read_text())
    for rule in profile["syscalls"]:
        rule["names"] = [name for name in rule["names"] if name not in URING]
    without = folder / "without-io_uring.json"
    without.write_text(json.dumps(profile))
    start_under(without, ringmq, "auto", "by epoll")


def start_under(profile, ringmq, io, words):
    command = [sys.executable, "tests/packaging/under_seccomp.py", str(profile), ringmq]
    flags = ["--listen", "127.0.0.1:0", "--shards", "1", "--io", io]
    with subprocess.Popen(command + flags, stdout=subprocess.PIPE, text=True) as broker:
        try:
            said = ""
            while "listening on 127.0.0.1:" not in said:
                line = broker.stdout.readline()
                assert line, f"the broker does not start: {said}"
                said += line
            assert words in said, said
        finally:
            broker.send_signal(signal.SIGTERM)
        assert broker.wait(timeout=20) == 0


def run(*command):
    subprocess.run([str(one) for one in command], check=True, stdout=subprocess.DEVNULL)


main()
