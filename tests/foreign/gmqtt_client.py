"""Drives the broker at 127.0.0.1:PORT with gmqtt, in MQTT 3.1.1 and 5.0.

usage: gmqtt_client.py PORT

Prints one line per scenario that holds; the first that does not ends the run with a traceback.
"""

import asyncio
import logging
import os
import sys

import gmqtt_features
from gmqtt_peer import KEEP_ALIVE, VERSIONS, Place, expect, message, soon

SESSION_TAKEN_OVER = 0x8E
ON_MOSQUITTO = os.environ.get("BROKER") == "mosquitto"
LARGE = b"x" * (100 * 1024)


async def main(port):
    idlers = [keep_alive(Place(port, version, "idle")) for version in VERSIONS]
    patient = [play(port, "5.0", scenario) for scenario in gmqtt_features.PATIENT]
    await asyncio.gather(play_one_by_one(port), *patient, *idlers)


async def play_one_by_one(port):
    for version in VERSIONS:
        for scenario in SCENARIOS:
            await play(port, version, scenario)
    for scenario in gmqtt_features.SCENARIOS:
        await play_or_skip(port, scenario)


async def play(port, version, scenario):
    await scenario(Place(port, version, scenario.__name__))
    report(version, scenario.__name__)


async def play_or_skip(port, scenario):
    why = gmqtt_features.NOT_ON_MOSQUITTO.get(scenario) if ON_MOSQUITTO else None
    if why:
        print(f"skipped 5.0 {scenario.__name__.replace('_', ' ')}: {why}", flush=True)
    else:
        await play(port, "5.0", scenario)


def report(version, scenario):
    print(f"ok {version} {scenario.replace('_', ' ')}", flush=True)


async def keep_alive(place):
    """A client that says nothing but PINGREQ while the other scenarios run."""
    peer = await place.peer("idler", keep_alive=KEEP_ALIVE)
    await peer.subscribe(place.topic("t"))
    for _ in range(2):
        await soon(peer.pings.get())
    await peer.publish(place.topic("t"), b"still here")
    await peer.receives(place.topic("t"), b"still here")
    await peer.leave()
    report(place.version, "keep alive")


async def connect(place):
    peer = await place.peer("a")
    expect(peer.session_present, False)
    await peer.leave()


async def qos_0_both_ways(place):
    await messages_arrive_in_order(place, 0)


async def qos_1_both_ways(place):
    await messages_arrive_in_order(place, 1)


async def qos_2_both_ways(place):
    await messages_arrive_in_order(place, 2)


async def messages_arrive_in_order(place, qos):
    alice, bob = await place.peer("alice"), await place.peer("bob")
    await alice.subscribe(place.topic("to-alice"), qos)
    await bob.subscribe(place.topic("to-bob"), qos)
    await sends_in_order(alice, bob, place.topic("to-bob"), qos)
    await sends_in_order(bob, alice, place.topic("to-alice"), qos)
    await alice.leave()
    await bob.leave()


async def sends_in_order(sender, receiver, topic, qos):
    counted = [b"%010d" % n for n in range(20)]
    payloads = [b"", LARGE, *counted, LARGE, b"", b"the last"]
    for payload in payloads:
        await sender.publish(topic, payload, qos)
    for payload in payloads:
        await receiver.receives(topic, payload, qos)


async def retained(place):
    topic = place.topic("t")
    alice, watcher = await place.peer("alice"), await place.peer("watcher")
    await watcher.subscribe(topic)
    for payload in (b"first", b"second"):
        await alice.publish(topic, payload, retain=True)
        await watcher.receives(topic, payload, retain=False)
        await a_late_subscriber_receives(place, payload)
    await alice.publish(topic, b"", retain=True)
    await watcher.receives(topic, b"", retain=False)
    await nothing_is_retained(place, alice)
    await watcher.receives(topic, b"live")
    await alice.leave()
    await watcher.leave()


async def a_late_subscriber_receives(place, payload):
    late = await place.peer("late")
    await late.subscribe(place.topic("#"))
    await late.receives(place.topic("t"), payload, retain=True)
    await late.leave()


async def nothing_is_retained(place, publisher):
    late = await place.peer("late")
    await late.subscribe(place.topic("#"))
    await publisher.publish(place.topic("t"), b"live")
    await late.receives(place.topic("t"), b"live")
    await late.leave()


async def will(place):
    watcher = await place.peer("watcher")
    await watcher.subscribe(place.topic("+"))
    polite = await place.peer("polite", will=message(place.topic("polite"), b"unsaid"))
    await polite.leave()
    abrupt = await place.peer("abrupt", will=message(place.topic("abrupt"), b"said"))
    await abrupt.vanish()
    await watcher.receives(place.topic("abrupt"), b"said")
    await watcher.leave()


async def resume(place):
    alice, bob = await place.peer("alice"), await place.peer("bob", persistent=True)
    expect(bob.session_present, False)
    await bob.subscribe(place.topic("+"))
    await bob.leave()
    for n in range(10):
        await alice.publish(place.topic("1"), b"%d" % n, 1)
        await alice.publish(place.topic("2"), b"%d" % n, 2)
    bob = await place.peer("bob", persistent=True)
    expect(bob.session_present, True)
    received = [await soon(bob.messages.get()) for _ in range(20)]
    for wanted in (1, 2):
        of_qos = [body for topic, body, qos, _ in received if qos == wanted and topic[-1] == f"{qos}"]
        expect(of_qos, [b"%d" % n for n in range(10)])
    await bob.leave()
    await alice.leave()
    await forgets(place)


async def forgets(place):
    """A clean start ends the session, subscriptions and all."""
    bob = await place.peer("bob")
    expect(bob.session_present, False)
    await bob.publish(place.topic("1"), b"to nobody")
    await bob.leave()
    bob = await place.peer("bob", persistent=True)
    expect(bob.session_present, False)
    await bob.leave()
    await (await place.peer("bob")).leave()


async def wildcards(place):
    alice, bob = await place.peer("alice"), await place.peer("bob")
    await bob.subscribe(place.topic("one/+/end"))
    await bob.subscribe(place.topic("many/#"))
    matching = ["one/a/end", "one//end", "many", "many/a", "many/a/b"]
    for name in ["one/end", "one/a/b/end", "one/a", "manya", *matching]:
        await alice.publish(place.topic(name), name.encode())
    for name in matching:
        await bob.receives(place.topic(name), name.encode())
    await alice.leave()
    await bob.leave()


async def unsubscribe(place):
    alice, bob = await place.peer("alice"), await place.peer("bob")
    await bob.subscribe(place.topic("left"))
    await bob.subscribe(place.topic("kept"))
    await alice.publish(place.topic("left"), b"1")
    await bob.receives(place.topic("left"), b"1")
    await bob.unsubscribe(place.topic("left"))
    await alice.publish(place.topic("left"), b"2")
    await alice.publish(place.topic("kept"), b"3")
    await bob.receives(place.topic("kept"), b"3")
    await alice.leave()
    await bob.leave()


async def takeover(place):
    first = await place.peer("same")
    await first.subscribe(place.topic("first"))
    second = await place.peer("same")
    # Debian's mosquitto closes the older connection without a DISCONNECT. [MQTT-3.1.4-3]
    has_reason = place.version == "5.0" and not ON_MOSQUITTO
    expect(await first.has_ended(), SESSION_TAKEN_OVER if has_reason else None)
    await second.subscribe(place.topic("second"))
    for name in ("first", "second"):
        await second.publish(place.topic(name), b"mine")
    await second.receives(place.topic("second"), b"mine")
    await second.leave()


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
    # It logs what it ignores; what matters, the scenarios see for themselves.
    logging.getLogger("gmqtt").setLevel(logging.CRITICAL)
    asyncio.run(main(int(sys.argv[1])))
