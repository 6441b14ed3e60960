"""Drives the broker at 127.0.0.1:PORT with Eclipse paho-mqtt, in MQTT 3.1, 3.1.1 and 5.0.

usage: paho_client.py PORT

Prints one line per scenario that holds; the first that does not ends the run with a traceback.
"""

import os
import sys
from concurrent.futures import ThreadPoolExecutor

import paho_features
from paho_peer import PATIENCE, VERSIONS, Idler, Peer, Place, expect

SESSION_TAKEN_OVER = 0x8E
# Debian's mosquitto closes the older connection of a client without a DISCONNECT.
ON_MOSQUITTO = os.environ.get("BROKER") == "mosquitto"
LARGE = b"x" * (100 * 1024)


def main(port):
    idlers = {version: Idler(port, version) for version in VERSIONS}
    with ThreadPoolExecutor(len(paho_features.PATIENT)) as pool:
        patient = [pool.submit(play, port, "5.0", waits) for waits in paho_features.PATIENT]
        for version in VERSIONS:
            for scenario in SCENARIOS:
                play(port, version, scenario)
        for scenario in paho_features.SCENARIOS:
            play_or_skip(port, scenario)
        for waits in patient:
            waits.result()
    for version, idler in idlers.items():
        idler.is_kept_alive_by_pings()
        report(version, "keep_alive")


def play(port, version, scenario):
    scenario(Place(port, version, scenario.__name__))
    report(version, scenario.__name__)


def play_or_skip(port, scenario):
    why = paho_features.NOT_ON_MOSQUITTO.get(scenario) if ON_MOSQUITTO else None
    if why:
        say(f"skipped 5.0 {scenario.__name__.replace('_', ' ')}: {why}")
    else:
        play(port, "5.0", scenario)


def report(version, scenario):
    say(f"ok {version} {scenario.replace('_', ' ')}")


def say(line):
    """In one piece: the patient scenarios speak from threads of their own."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def connect(place):
    peer = place.peer("a")
    expect(peer.session_present, False)
    peer.leave()
    if place.version != "3.1":
        nameless = Peer(place.port, place.version, "")
        if place.version == "5.0":
            expect(len(nameless.properties.AssignedClientIdentifier) > 0, True)
        nameless.leave()


def qos_0_both_ways(place):
    messages_arrive_in_order(place, 0)


def qos_1_both_ways(place):
    messages_arrive_in_order(place, 1)


def qos_2_both_ways(place):
    messages_arrive_in_order(place, 2)


def messages_arrive_in_order(place, qos):
    alice, bob = place.peer("alice"), place.peer("bob")
    alice.subscribe(place.topic("to-alice"), qos)
    bob.subscribe(place.topic("to-bob"), qos)
    sends_in_order(alice, bob, place.topic("to-bob"), qos)
    sends_in_order(bob, alice, place.topic("to-alice"), qos)
    alice.leave()
    bob.leave()


def sends_in_order(sender, receiver, topic, qos):
    counted = [b"%010d" % n for n in range(20)]
    payloads = [b"", LARGE, *counted, LARGE, b"", b"the last"]
    for payload in payloads:
        sender.publish(topic, payload, qos)
    for payload in payloads:
        receiver.receives(topic, payload, qos)


def retained(place):
    topic = place.topic("t")
    alice, watcher = place.peer("alice"), place.peer("watcher")
    watcher.subscribe(topic)
    for payload in (b"first", b"second"):
        alice.publish(topic, payload, retain=True)
        watcher.receives(topic, payload, retain=False)
        a_late_subscriber_receives(place, payload)
    alice.publish(topic, b"", retain=True)
    watcher.receives(topic, b"", retain=False)
    nothing_is_retained(place, alice)
    watcher.receives(topic, b"live")
    alice.leave()
    watcher.leave()


def a_late_subscriber_receives(place, payload):
    late = place.peer("late")
    late.subscribe(place.topic("#"))
    late.receives(place.topic("t"), payload, retain=True)
    late.leave()


def nothing_is_retained(place, publisher):
    late = place.peer("late")
    late.subscribe(place.topic("#"))
    publisher.publish(place.topic("t"), b"live")
    late.receives(place.topic("t"), b"live")
    late.leave()


def will(place):
    watcher = place.peer("watcher")
    watcher.subscribe(place.topic("+"))
    place.peer("polite", will=(place.topic("polite"), b"unsaid", 1)).leave()
    place.peer("abrupt", will=(place.topic("abrupt"), b"said", 1)).vanish()
    watcher.receives(place.topic("abrupt"), b"said")
    watcher.leave()


def resume(place):
    alice, bob = place.peer("alice"), place.peer("bob", persistent=True)
    expect(bob.session_present, False)
    bob.subscribe(place.topic("+"))
    bob.leave()
    for n in range(10):
        alice.publish(place.topic("1"), b"%d" % n, 1)
        alice.publish(place.topic("2"), b"%d" % n, 2)
    bob = place.peer("bob", persistent=True)
    expect_session_present(place, bob, True)
    received = [bob.messages.get(timeout=PATIENCE) for _ in range(20)]
    for qos in (1, 2):
        of_qos = [m.payload for m in received if m.qos == qos and m.topic == place.topic(qos)]
        expect(of_qos, [b"%d" % n for n in range(10)])
    bob.leave()
    alice.leave()
    forgets(place)


def forgets(place):
    """A clean start ends the session, subscriptions and all."""
    bob = place.peer("bob")
    expect(bob.session_present, False)
    bob.publish(place.topic("1"), b"to nobody")
    bob.leave()
    bob = place.peer("bob", persistent=True)
    expect(bob.session_present, False)
    bob.leave()
    place.peer("bob").leave()


def expect_session_present(place, peer, present):
    # MQTT 3.1 has no such flag.
    expect(peer.session_present, present and place.version != "3.1")


def wildcards(place):
    alice, bob = place.peer("alice"), place.peer("bob")
    bob.subscribe(place.topic("one/+/end"))
    bob.subscribe(place.topic("many/#"))
    matching = ["one/a/end", "one//end", "many", "many/a", "many/a/b"]
    for name in ["one/end", "one/a/b/end", "one/a", "manya", *matching]:
        alice.publish(place.topic(name), name.encode())
    for name in matching:
        bob.receives(place.topic(name), name.encode())
    alice.leave()
    bob.leave()


def unsubscribe(place):
    alice, bob = place.peer("alice"), place.peer("bob")
    bob.subscribe(place.topic("left"))
    bob.subscribe(place.topic("kept"))
    alice.publish(place.topic("left"), b"1")
    bob.receives(place.topic("left"), b"1")
    bob.unsubscribe(place.topic("left"))
    alice.publish(place.topic("left"), b"2")
    alice.publish(place.topic("kept"), b"3")
    bob.receives(place.topic("kept"), b"3")
    alice.leave()
    bob.leave()


def takeover(place):
    first = place.peer("same")
    first.subscribe(place.topic("first"))
    second = place.peer("same")
    code = first.has_ended()
    if place.version == "5.0" and not ON_MOSQUITTO:
        # [MQTT-3.1.4-3]
        expect(code.value, SESSION_TAKEN_OVER)
    second.subscribe(place.topic("second"))
    for name in ("first", "second"):
        second.publish(place.topic(name), b"mine")
    second.receives(place.topic("second"), b"mine")
    second.leave()


SCENARIOS = [
    connect,
    qos_0_both_ways,
    qos_1_both_ways,
    qos_2_both_ways,
    retained,
    will,
    resume,
    wildcards,
    unsubscribe,
    takeover,
]

if __name__ == "__main__":
    main(int(sys.argv[1]))
