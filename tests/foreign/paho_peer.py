"""A client of Eclipse paho-mqtt as the scenarios speak to it: each call waits, with a limit, until
the broker has answered.
"""

import os
import queue
import socket
import ssl
import threading

import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

VERSIONS = {"3.1": mqtt.MQTTv31, "3.1.1": mqtt.MQTTv311, "5.0": mqtt.MQTTv5}
PATIENCE = 10.0
KEEP_ALIVE = 2
TRANSPORT = os.environ.get("TRANSPORT", "tcp")
WITH_WILL = 0x04
TLS_VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}


def tls():
    """TLS as the environment asks for it: one version, and a certificate if it names one."""
    if "TLS_VERSION" not in os.environ:
        return None
    context = ssl.create_default_context(cafile=os.environ["TLS_CA"])
    context.minimum_version = context.maximum_version = TLS_VERSIONS[os.environ["TLS_VERSION"]]
    if "TLS_CERT" in os.environ:
        context.load_cert_chain(os.environ["TLS_CERT"], os.environ["TLS_KEY"])
    return context


TLS = tls()


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
        self,
        port,
        version,
        client_id,
        persistent=False,
        will=None,
        keep_alive=60,
        run=True,
        refused=None,
        manual_ack=False,
        **connect,
    ):
        self.version = VERSIONS[version]
        self.connacks, self.messages, self.acks = queue.Queue(), queue.Queue(), queue.Queue()
        self.pings, self.ends = queue.Queue(), queue.Queue()
        self.published = {}
        self.client = self._client(client_id, persistent, manual_ack)
        self._listen()
        if will:
            self.client.will_set(*will)
        session = self._session(persistent, connect)
        self.client.connect("127.0.0.1", port, keep_alive, **session)
        if run:
            self.client.loop_start()
            self.session_present, self.properties = self._answered(refused or 0)

    def _client(self, client_id, persistent, manual_ack):
        clean = {} if self.version == mqtt.MQTTv5 else {"clean_session": not persistent}
        client = mqtt.Client(
            mqtt.CallbackAPIVersion.VERSION2,
            client_id,
            protocol=self.version,
            transport=TRANSPORT,
            reconnect_on_failure=False,
            manual_ack=manual_ack,
            **clean,
        )
        if TLS:
            client.tls_set_context(TLS)
        return client

    def _session(self, persistent, connect):
        if self.version != mqtt.MQTTv5:
            return {}
        expiry = {"SessionExpiryInterval": 3600 if persistent else 0}
        asked = properties(PacketTypes.CONNECT, **{**expiry, **connect})
        return {"clean_start": not persistent, "properties": asked}

    def _listen(self):
        client = self.client
        client.on_connect = lambda _c, _u, *connack: self.connacks.put(connack)
        client.on_message = lambda _c, _u, message: self.messages.put(message)
        client.on_subscribe = lambda _c, _u, _mid, codes, _p: self.acks.put(codes)
        client.on_unsubscribe = lambda _c, _u, _mid, codes, _p: self.acks.put(codes)
        client.on_publish = lambda _c, _u, mid, code, _p: self.published.update({mid: code.value})
        client.on_disconnect = lambda _c, _u, _flags, code, _p: self.ends.put(code)
        client.on_log = lambda _c, _u, _level, line: "PINGRESP" in line and self.pings.put(line)

    def _answered(self, wanted):
        flags, code, properties = self.connacks.get(timeout=PATIENCE)
        expect(code.value, wanted)
        return flags.session_present, properties

    def subscribe(self, topic_filter, qos=2, identifier=None, **options):
        """Options in the words of 5.0: noLocal, retainAsPublished, retainHandling."""
        more = {}
        if identifier:
            more["properties"] = properties(PacketTypes.SUBSCRIBE, SubscriptionIdentifier=identifier)
        if options:
            self.client.subscribe(topic_filter, options=SubscribeOptions(qos, **options), **more)
        else:
            self.client.subscribe(topic_filter, qos, **more)
        codes = self.acks.get(timeout=PATIENCE)
        expect([code.value for code in codes], [qos])

    def unsubscribe(self, topic_filter):
        codes = self.unsubscribed(topic_filter)
        expect([code.value for code in codes if code.is_failure], [])

    def unsubscribed(self, topic_filter):
        self.client.unsubscribe(topic_filter)
        return self.acks.get(timeout=PATIENCE)

    def publish(self, topic, payload, qos=1, retain=False, **more):
        """Says the Reason Code of the acknowledgement. 5.0 has properties for a PUBLISH."""
        asked = properties(PacketTypes.PUBLISH, **more) if more else None
        info = self.client.publish(topic, payload, qos, retain, asked)
        info.wait_for_publish(timeout=PATIENCE)
        expect(info.is_published(), True)
        return self.published.pop(info.mid)

    def receives(self, topic, payload, qos=1, retain=False):
        message = self.messages.get(timeout=PATIENCE)
        expect(
            (message.topic, message.payload, message.qos, message.retain),
            (topic, payload, qos, retain),
        )
        return message

    def leave(self, with_will=False, **disconnect):
        """Ends with DISCONNECT. A message that nobody expected makes the scenario fail."""
        code = ReasonCode(PacketTypes.DISCONNECT, identifier=WITH_WILL) if with_will else None
        asked = properties(PacketTypes.DISCONNECT, **disconnect) if disconnect else None
        self.client.disconnect(code, asked)
        self.has_ended()

    def has_ended(self):
        code = self.ends.get(timeout=PATIENCE)
        self.client.loop_stop()
        expect([m.topic for m in self.messages.queue], [])
        return code

    def vanish(self):
        """Ends the connection without DISCONNECT."""
        # Of a WebSocket, too: the socket beneath it.
        with socket.socket(fileno=os.dup(self.client.socket().fileno())) as beneath:
            beneath.shutdown(socket.SHUT_RDWR)
        self.has_ended()


class Idler:
    """A client that says nothing but PINGREQ while the other scenarios run."""

    def __init__(self, port, version):
        self.place = Place(port, version, "idle")
        self.peer = self.place.peer("idler", keep_alive=KEEP_ALIVE, run=False)
        self.over, self.asked = threading.Event(), queue.Queue()
        # The loop of paho's own thread looks once a second, too late for so short a Keep Alive.
        self.thread = threading.Thread(target=self._loop, daemon=True)
        self.thread.start()
        self.peer._answered(0)
        self._ask("subscribe", self.place.topic("t"), 2)
        expect([code.value for code in self.peer.acks.get(timeout=PATIENCE)], [2])

    def _loop(self):
        while not self.over.is_set():
            while not self.asked.empty():
                name, *arguments = self.asked.get()
                getattr(self.peer.client, name)(*arguments)
            self.peer.client.loop(timeout=0.1)

    def _ask(self, *call):
        """Has the thread of the loop call it: two threads must not use one TLS socket."""
        self.asked.put(call)

    def is_kept_alive_by_pings(self):
        for _ in range(2):
            self.peer.pings.get(timeout=PATIENCE)
        self._ask("publish", self.place.topic("t"), b"still here", 1)
        self.peer.receives(self.place.topic("t"), b"still here")
        self._ask("disconnect")
        self.peer.ends.get(timeout=PATIENCE)
        self.over.set()
        self.thread.join(PATIENCE)


def properties(packet_type, **named):
    made = Properties(packet_type)
    for name, value in named.items():
        setattr(made, name, value)
    return made


def expect(actual, wanted):
    if actual != wanted:
        raise AssertionError(f"expected {brief(wanted)}, not {brief(actual)}")


def brief(value):
    text = repr(value)
    return text if len(text) < 200 else f"{text[:200]}... ({len(text)} characters)"
