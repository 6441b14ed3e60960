"""Drives the broker at 127.0.0.1:PORT with Eclipse paho-mqtt, in MQTT 3.1, 3.1.1 and 5.0.

usage: paho_client.py PORT

Prints one line per scenario that holds; the first that does not ends the run with a traceback.
"""

import os
import queue
import socket
import sys
import threading

import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

VERSIONS = {"3.1": mqtt.MQTTv31, "3.1.1": mqtt.MQTTv311, "5.0": mqtt.MQTTv5}
PATIENCE = 10.0
KEEP_ALIVE = 2
SESSION_TAKEN_OVER = 0x8E
# Debian's mosquitto closes the older connection of a client without a DISCONNECT.
TAKEOVER_HAS_A_REASON = os.environ.get("BROKER") != "mosquitto"
LARGE = b"x" * (100 * 1024)


def main(port):
    idlers = {version: Idler(port, version) for version in VERSIONS}
    for version in VERSIONS:
        for scenario in SCENARIOS:
            scenario(Place(port, version, scenario.__name__))
            report(version, scenario.__name__)
    for version, idler in idlers.items():
        idler.is_kept_alive_by_pings()
        report(version, "keep_alive")


def report(version, scenario):
    print(f"ok {version} {scenario.replace('_', ' ')}", flush=True)


class Place:
    """Where a scenario happens: a broker, a version, and topics and names of its own."""

    def __init__(self, port, version, scenario):
        self.port, self.version = port, version
        self.short = f"{version}-{scenario}"

    def topic(self, rest):
        return f"paho/{self.short}/{rest}"

    def client_id(self, role):
        # MQTT 3.1 allows no more than 23 characters.
        return f"{self.short}-{role}"[-23:]

    def peer(self, role, **options):
        return Peer(self.port, self.version, self.client_id(role), **options)


class Peer:
    """A connected client whose callbacks land in one queue per kind of event."""

    def __init__(
        self, port, version, client_id, persistent=False, will=None, keep_alive=60, run=True
    ):
        self.version = VERSIONS[version]
        self.connacks, self.messages, self.acks = queue.Queue(), queue.Queue(), queue.Queue()
        self.pings, self.ends = queue.Queue(), queue.Queue()
        self.client = self._client(client_id, persistent)
        self._listen()
        if will:
            self.client.will_set(*will)
        self.client.connect("127.0.0.1", port, keep_alive, **self._session(persistent))
        if run:
            self.client.loop_start()
            self.session_present, self.properties = self._connected()

    def _client(self, client_id, persistent):
        clean = {} if self.version == mqtt.MQTTv5 else {"clean_session": not persistent}
        return mqtt.Client(
            mqtt.CallbackAPIVersion.VERSION2,
            client_id,
            protocol=self.version,
            reconnect_on_failure=False,
            **clean,
        )

    def _session(self, persistent):
        if self.version != mqtt.MQTTv5:
            return {}
        properties = Properties(PacketTypes.CONNECT)
        properties.SessionExpiryInterval = 3600 if persistent else 0
        return {"clean_start": not persistent, "properties": properties}

    def _listen(self):
        client = self.client
        client.on_connect = lambda _c, _u, *connack: self.connacks.put(connack)
        client.on_message = lambda _c, _u, message: self.messages.put(message)
        client.on_subscribe = lambda _c, _u, _mid, codes, _p: self.acks.put(codes)
        client.on_unsubscribe = lambda _c, _u, _mid, codes, _p: self.acks.put(codes)
        client.on_disconnect = lambda _c, _u, _flags, code, _p: self.ends.put(code)
        client.on_log = lambda _c, _u, _level, line: "PINGRESP" in line and self.pings.put(line)

    def _connected(self):
        flags, code, properties = self.connacks.get(timeout=PATIENCE)
        expect(code.value, 0)
        return flags.session_present, properties

    def subscribe(self, topic_filter, qos=2):
        self.client.subscribe(topic_filter, qos)
        codes = self.acks.get(timeout=PATIENCE)
        expect([code.value for code in codes], [qos])

    def unsubscribe(self, topic_filter):
        self.client.unsubscribe(topic_filter)
        codes = self.acks.get(timeout=PATIENCE)
        expect([code.value for code in codes if code.is_failure], [])

    def publish(self, topic, payload, qos=1, retain=False):
        info = self.client.publish(topic, payload, qos, retain)
        info.wait_for_publish(timeout=PATIENCE)
        expect(info.is_published(), True)

    def receives(self, topic, payload, qos=1, retain=False):
        message = self.messages.get(timeout=PATIENCE)
        expect(
            (message.topic, message.payload, message.qos, message.retain),
            (topic, payload, qos, retain),
        )

    def leave(self):
        """Ends with DISCONNECT. A message that nobody expected makes the scenario fail."""
        self.client.disconnect()
        self.has_ended()

    def has_ended(self):
        code = self.ends.get(timeout=PATIENCE)
        self.client.loop_stop()
        expect([m.topic for m in self.messages.queue], [])
        return code

    def vanish(self):
        """Ends the connection without DISCONNECT."""
        self.client.socket().shutdown(socket.SHUT_RDWR)
        self.has_ended()


class Idler:
    """A client that says nothing but PINGREQ while the other scenarios run."""

    def __init__(self, port, version):
        self.place = Place(port, version, "idle")
        self.peer = self.place.peer("idler", keep_alive=KEEP_ALIVE, run=False)
        self.over = threading.Event()
        # The loop of paho's own thread looks once a second, too late for so short a Keep Alive.
        self.thread = threading.Thread(target=self._loop, daemon=True)
        self.thread.start()
        self.peer._connected()
        self.peer.subscribe(self.place.topic("t"))

    def _loop(self):
        while not self.over.is_set():
            self.peer.client.loop(timeout=0.1)

    def is_kept_alive_by_pings(self):
        for _ in range(2):
            self.peer.pings.get(timeout=PATIENCE)
        self.peer.publish(self.place.topic("t"), b"still here")
        self.peer.receives(self.place.topic("t"), b"still here")
        self.peer.client.disconnect()
        self.over.set()
        self.thread.join(PATIENCE)


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
    if place.version == "5.0" and TAKEOVER_HAS_A_REASON:
        # [MQTT-3.1.4-3]
        expect(code.value, SESSION_TAKEN_OVER)
    second.subscribe(place.topic("second"))
    for name in ("first", "second"):
        second.publish(place.topic(name), b"mine")
    second.receives(place.topic("second"), b"mine")
    second.leave()


def expect(actual, wanted):
    if actual != wanted:
        raise AssertionError(f"expected {brief(wanted)}, not {brief(actual)}")


def brief(value):
    text = repr(value)
    return text if len(text) < 200 else f"{text[:200]}... ({len(text)} characters)"


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
