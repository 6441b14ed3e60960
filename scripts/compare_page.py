#!/usr/bin/env python3
"""Makes the tables of docs/performance.md from what scripts/compare.sh has measured.

    compare_page.py RESULTS            prints them
    compare_page.py --write RESULTS    puts them between the marks in docs/performance.md
"""

import json
import re
import sys
from pathlib import Path
from statistics import median

HOME = Path(__file__).parent
PAGE = HOME.parent / "docs/performance.md"
BEGIN, END = "<!-- compare.sh: begin -->", "<!-- compare.sh: end -->"
OURS, RELAY, TWO_SHARDS = "ringmq", "relay", "ringmq2"
LABELS = {RELAY: "null relay", TWO_SHARDS: "ringmq, 2 shards"}


def main(arguments):
    results = Results(Path(arguments[-1]).read_text().splitlines())
    tables = page(results)
    if arguments[0] != "--write":
        print(tables)
        return
    text = PAGE.read_text()
    before, rest = text.split(BEGIN)
    PAGE.write_text(f"{before}{BEGIN}\n{tables}\n{END}{rest.split(END)[1]}")


class Results:
    """Runs by workload and broker; figures are medians over the rounds."""

    def __init__(self, lines):
        self.about = json.loads(lines[0])
        self.runs = [json.loads(line) for line in lines[1:]]
        self.brokers = [name for name in self.about["versions"] if name != TWO_SHARDS]
        self.peers = [name for name in self.brokers if name not in (OURS, RELAY)]
        self.rounds = max((run["round"] for run in self.runs), default=0)

    def of(self, workload, broker):
        return [run for run in self.runs if (run["workload"], run["broker"]) == (workload, broker)]

    def values(self, workload, broker, *names):
        """One figure of each run that delivered anything, such as `("latency", "p99")`."""
        results = [run["result"] for run in self.of(workload, broker)]
        found = [figure(result, names) for result in results if result and result["delivered"]]
        return sorted(value for value in found if value is not None)

    def median(self, workload, broker, *names):
        values = self.values(workload, broker, *names)
        return median(values) if values else None

    def cpu(self, workload, broker):
        return self.median(workload, broker, *CPU)

    def sound_peers(self, workload):
        """Those that did what was asked."""
        return [peer for peer in self.peers if not trouble(self.of(workload, peer))]

    def best_peer(self, workload, *names):
        """The lowest figure among the peers that did what was asked."""
        figures = [self.median(workload, peer, *names) for peer in self.sound_peers(workload)]
        return min((value for value in figures if value is not None), default=None)


def figure(result, names):
    for name in names:
        result = result and result.get(name)
    return result


CPU = ("broker", "cpu_micros_per_delivered")
RATE = ("delivered_per_second",)
QUANTILES = ("p50", "p99", "p99_9")


def page(results):
    parts = {part: rows for part, rows in workloads().items() if any_run(results, rows)}
    load = parts.get("load", {})
    sections = [introduction(results)]
    if load:
        sections += [cpu_table(results, load), rate_table(results, load)]
        sections.append(latency_table(results, "Latency under these loads", LOAD_LATENCY, load))
    if rows := parts.get("latency"):
        sections.append(latency_table(results, "Latency at a given rate", GIVEN_RATE, rows))
    sections += [SECTIONS[part](results, parts[part]) for part in SECTIONS if part in parts]
    sections += [losses_table(results, parts), goals(results, parts)]
    return "\n\n".join(sections)


def workloads():
    """The parts of workloads.txt, each with its workloads' names by their keys."""
    parts = {}
    for line in (HOME / "workloads.txt").read_text().splitlines():
        if part := re.fullmatch(r"\[(\w+)\]", line):
            rows = parts.setdefault(part[1], {})
        elif line.count("|") == 3 and not line.startswith("#"):
            key, _, name, _ = (word.strip() for word in line.split("|"))
            rows[key] = name
    return parts


def any_run(results, rows):
    return any(run["workload"] in rows for run in results.runs)


def introduction(results):
    about = results.about
    versions = [f"{label(name)} {version}" for name, version in about["versions"].items()
                if name not in (OURS, RELAY, TWO_SHARDS)]
    return f"""\
By `scripts/compare.sh` on {about["date"]}: {about["machine"]}, {about["cores"]} cores, Linux
{about["kernel"]}; ringmq {about["commit"]} with one shard, {", ".join(versions) or "no peer"}.
The broker runs on CPU {about["broker_cpu"]} and the load on CPU {about["load_cpu"]}. Each run
takes {about["seconds"]} s and starts a fresh broker. The brokers alternate. Figures are medians of {results.rounds} rounds, followed by the lowest and the highest value in brackets.
All brokers keep everything in memory, log nothing and have raised limits (`scripts/peers/`). The null
relay is ringmq's runtime without MQTT. Payloads are 64 bytes unless the row says otherwise."""


def cpu_table(results, rows):
    head = ["workload", *map(label, results.brokers), "of the best peer", "of the relay"]
    body = [[name, *(cpu_cell(results, key, broker) for broker in results.brokers),
             ratio(results.cpu(key, OURS), results.best_peer(key, *CPU)),
             ratio(results.cpu(key, OURS), results.cpu(key, RELAY))]
            for key, name in rows.items()]
    return section("CPU per delivered message", "Broker CPU µs, user and system.", head, body)


def cpu_cell(results, key, broker):
    values = results.values(key, broker, *CPU)
    if not values:
        return "–" + mark(results, key, broker)
    middle, lowest, highest = (micros(value) for value in (median(values), values[0], values[-1]))
    return f"{middle} ({lowest} – {highest})" + mark(results, key, broker)


def micros(value):
    return f"{value:.2f}" if value < 100 else f"{value:,.0f}"


def mark(results, key, broker):
    return "*" if trouble(results.of(key, broker)) else ""


def trouble(runs):
    """Whether anything was lost, broken or not finished."""
    return any(run["outcome"] != "ok" or run["result"]["lost"] for run in runs)


def rate_table(results, rows):
    head = ["workload", *map(label, results.brokers), "of the best peer"]
    body = []
    for key, name in rows.items():
        rates = {broker: results.median(key, broker, *RATE) for broker in results.brokers}
        peers = [rates[peer] for peer in results.sound_peers(key)]
        best = max((rate for rate in peers if rate), default=None)
        body.append([name, *(thousands(rates[broker]) for broker in results.brokers),
                     ratio(rates.get(OURS), best)])
    text = "Thousands per second. With many messages at a time, the single core of the load is a limit, too."
    return section("Delivered messages", text, head, body)


def thousands(rate):
    return "–" if rate is None else f"{rate / 1e3:,.{1 if rate >= 1e3 else 3}f}"


LOAD_LATENCY = ("p50 / p99 / p99.9 in ms. With many messages at a time, most of the latency is waiting for "
                "earlier messages.")
GIVEN_RATE = ("p50 / p99 / p99.9 in ms, measured from the time at which a message was due, even if it was sent later. "
              "The second line is the rate of due messages. Runs with a fixed rate last 3 s. "
              "The maximum is the highest rate that `loadtest --find-max 50ms` finds: p99 within 50 ms, and nothing lost.")


def latency_table(results, title, text, rows):
    head = ["workload", *map(label, results.brokers)]
    body = []
    for key, name in rows.items():
        body.append([name, *(latency_cell(results, key, broker) for broker in results.brokers)])
    return section(title, text, head, body)


def latency_cell(results, key, broker):
    values = [results.median(key, broker, "latency", quantile) for quantile in QUANTILES]
    if None in values:
        return "–" + mark(results, key, broker)
    return " / ".join(millis(value) for value in values) + mark(results, key, broker) \
        + due_rate(results, key, broker)


def due_rate(results, key, broker):
    rates = [re.fullmatch(r"(\d+)/s", run["result"]["pacing"])
             for run in results.of(key, broker) if run["result"]]
    rates = [int(rate[1]) for rate in rates if rate]
    return f"<br>{median(rates):,.0f}/s" if rates else ""


def millis(micros):
    return f"{micros / 1e3:.3g}"


def memory_table(results, rows):
    lines = [("bytes per connection", "resident_bytes_per_connection", 1),
             ("KiB before the first connection", "resident_bytes_unconnected", 1024),
             ("KiB at the end", "resident_bytes_held", 1024)]
    body = []
    for name, field, unit in lines:
        values = {broker: results.median("idle", broker, "broker", field)
                  for broker in results.brokers}
        best = results.best_peer("idle", "broker", field)
        body.append([name, *("–" if value is None else f"{value / unit:,.0f}"
                             for value in values.values()), ratio(values.get(OURS), best)])
    text = "Resident memory with 10,000 connections of one subscription each, to each of which one message is sent."
    return section("Idle connections", text,
                   ["", *map(label, results.brokers), "of the best peer"], body)


def retained_table(results, rows):
    head = ["workload", *map(label, results.brokers), "of the best peer"]
    body = []
    for key, name in rows.items():
        body.append([name, *(cpu_cell(results, key, broker) for broker in results.brokers),
                     ratio(results.cpu(key, OURS), results.best_peer(key, *CPU))])
        rates = [thousands(results.median(key, broker, *RATE)) for broker in results.brokers]
        body.append(["thousands per second", *rates, ""])
    return section("Retained messages", "Broker CPU µs per message replayed.", head, body)


def shards_table(results, rows):
    text = (f"ringmq with one shard on CPU {results.about['broker_cpu']}, and with two shards on CPU "
            f"{results.about['broker_cpu']} and {results.about['second_cpu']}, where half of the traffic crosses "
            "shards. CPU µs per message.")
    head = ["workload", "one shard", "two shards", "ratio", "thousands per second, one", "two"]
    body = []
    for key, name in rows.items():
        body.append([name, *(cpu_cell(results, key, broker) for broker in (OURS, TWO_SHARDS)),
                     ratio(results.cpu(key, TWO_SHARDS), results.cpu(key, OURS)),
                     *(thousands(results.median(key, broker, *RATE))
                       for broker in (OURS, TWO_SHARDS))])
    return section("One shard and two", text, head, body)


def growth_table(results, rows):
    brokers = [broker for broker in results.brokers if any(results.of(key, broker) for key in rows)]
    text = ("CPU µs per message. Connections: pairs, with a total rate of 20,000 messages per second at fixed "
            "times, so that the broker wakes equally often for every number of connections. Subscriptions: "
            "10 → 10, 100 each at a time; each subscriber subscribes to all topics, and to many more filters "
            "with wildcards.")
    body = [[name, *(cpu_cell(results, key, broker) for broker in brokers)]
            for key, name in rows.items()]
    return section("Growth", text, ["", *map(label, brokers)], body)


SECTIONS = {"memory": memory_table, "retained": retained_table, "shards": shards_table,
            "growth": growth_table}


def losses_table(results, parts):
    body = []
    for key, name in (item for rows in parts.values() for item in rows.items()):
        for broker in results.about["versions"]:
            runs = results.of(key, broker)
            if trouble(runs):
                body.append([name, label(broker), *losses(runs)])
    text = ("These runs are marked * above, and are not counted as a best peer. A broker may lose messages at "
            "QoS 0. The last column shows other failures.")
    if not body:
        return "### Losses\n\nNone, of any broker."
    return section("Losses", text, ["workload", "broker", "lost", "of", "runs"], body)


def losses(runs):
    results = [run["result"] for run in runs if run["result"]]
    lost = sum(result["lost"] for result in results)
    expected = sum(result["expected"] for result in results)
    outcomes = {}
    for run in runs:
        breaches = ", ".join(run["result"]["breaches"]) if run["result"] else run["fault"]
        outcome = run["outcome"] + (f": {breaches}" if breaches else "")
        outcomes[outcome] = outcomes.get(outcome, 0) + 1
    said = "; ".join(f"{count} {outcome}" for outcome, count in outcomes.items())
    return [f"{lost:,}", f"{expected:,}", said]


def goals(results, parts):
    """What the figures say to the goals that can be read off them."""
    lines = [line for goal in GOALS for line in goal(results, parts)]
    return "### Against the goals\n\n" + "\n".join(f"- {line}" for line in lines)


def goal_peers(results, parts):
    ratios = {name: results.cpu(key, OURS) / results.best_peer(key, *CPU)
              for key, name in parts.get("load", {}).items()
              if results.cpu(key, OURS) and results.best_peer(key, *CPU)}
    if ratios:
        worst = max(ratios, key=ratios.get)
        below = sum(value < 1 for value in ratios.values())
        half = sum(value <= 0.5 for value in ratios.values())
        yield (f"CPU per message below every peer: on {below} of {len(ratios)} loads, at most half of the "
               f"best on {half}; the highest ratio is {ratios[worst]:.2f} ({worst}).")


def goal_relay(results, parts):
    ratios = {name: results.cpu(key, OURS) / results.cpu(key, RELAY)
              for part in ("load", "latency") for key, name in parts.get(part, {}).items()
              if results.cpu(key, OURS) and results.cpu(key, RELAY)}
    if ratios:
        worst = max(ratios, key=ratios.get)
        within = sum(value <= 1.25 for value in ratios.values())
        yield (f"At most 1.25 of the null relay: on {within} of {len(ratios)} loads; the highest is "
               f"{ratios[worst]:.2f} ({worst}).")


def goal_latency(results, parts):
    for key, name in parts.get("latency", {}).items():
        ours = results.median(key, OURS, "latency", "p99")
        best = results.best_peer(key, "latency", "p99")
        if ours and best:
            verdict = "yes" if ours < best else "no"
            yield f"p99 below every peer, {name}: {verdict}, {millis(ours)} ms and {millis(best)} ms."


def goal_memory(results, _):
    value = results.median("idle", OURS, "broker", "resident_bytes_per_connection")
    if value:
        yield f"At most 1,024 bytes per idle connection: {value:,.0f}."


def goal_shards(results, parts):
    ratios = [results.cpu(key, TWO_SHARDS) / results.cpu(key, OURS)
              for key in parts.get("shards", {})
              if results.cpu(key, TWO_SHARDS) and results.cpu(key, OURS)]
    if ratios:
        yield f"Two shards at most 1.3 of one in CPU per message: {min(ratios):.2f} – {max(ratios):.2f}."


def goal_growth(results, parts):
    growing = {}
    for key in parts.get("growth", {}):
        if value := results.cpu(key, OURS):
            growing.setdefault(key.split("-")[0], []).append(value)
    for what, values in growing.items():
        middle = (max(values) + min(values)) / 2
        yield f"CPU per message within ±15 % over all {what}: ±{100 * (max(values) / middle - 1):.0f} %."


def goal_losses(results, _):
    runs = [run for run in results.runs if run["broker"] in (OURS, TWO_SHARDS)]
    lost = sum(run["result"]["lost"] for run in runs if run["result"])
    unsound = sum(run["outcome"] != "ok" for run in runs)
    yield f"Lost by ringmq in all runs: {lost}; runs with a broken promise or without an end: {unsound}."


GOALS = [goal_peers, goal_relay, goal_latency, goal_memory, goal_shards, goal_growth, goal_losses]


def section(title, text, head, body):
    lines = [f"### {title}", "", text, "", row(head), "|" + "---|" * len(head)]
    return "\n".join(lines + [row(cells) for cells in body])


def row(cells):
    return "| " + " | ".join(cells) + " |"


def ratio(value, per):
    return f"{value / per:.2f}" if value and per else "–"


def label(broker):
    return LABELS.get(broker, broker)


if __name__ == "__main__":
    main(sys.argv[1:])
