"""A client of gmqtt as the scenarios speak to it: each call waits, with a limit, until the broker
has answered.
"""

import asyncio
import logging

import gmqtt
from gmqtt.mqtt.constants import MQTTv50, MQTTv311
from gmqtt.mqtt.handler import MQTTConnectError
from gmqtt.storage import PersistentStorage

VERSIONS = {"3.1.1": MQTTv311, "5.0": MQTTv50}
PATIENCE = 10.0
KEEP_ALIVE = 2
WITH_WILL = 0x04
NEVER_AGAIN = {"reconnect_retries": -2}


class Place:
    """Where a scenario happens: a broker, a version, and topics and names of its own."""

    def __init__(self, port, version, scenario):
        self.port, self.version = port, version
        self.short = f"{version}-{scenario}"

    def topic(self, rest):
        return f"gmqtt/{self.short}/{rest}"

    async def peer(self, role, **options):
        peer = Peer(self.version, f"gmqtt-{self.short}-{role}", **options)
        await peer.connects(self.port)
        return peer

    async def refusal(self, role, **options):
        """The Reason Code that a client is refused with."""
        try:
            await self.peer(role, **options)
        except MQTTConnectError as error:
            return error._code
        raise AssertionError("it was let in")


class Peer:
    """A client whose callbacks land in one queue per kind of event."""

    def __init__(
        self,
        version,
        client_id,
        persistent=False,
        will=None,
        keep_alive=60,
        manual_ack=False,
        **properties,
    ):
        self.version, self.keep_alive = VERSIONS[version], keep_alive
        self.connacks, self.messages, self.acks = asyncio.Queue(), asyncio.Queue(), asyncio.Queue()
        self.pings, self.ends, self.allowed = asyncio.Queue(), asyncio.Queue(), asyncio.Queue()
        self.unacknowledged = PersistentStorage()
        if self.version == MQTTv50:
            expiry = 3600 if persistent else 0
            properties = {"session_expiry_interval": expiry, **properties}
        self.client = gmqtt.Client(
            client_id,
            clean_session=not persistent,
            optimistic_acknowledgement=not manual_ack,
            will_message=will,
            persistent_storage=self.unacknowledged,
            logger=self._logger(client_id),
            **properties,
        )
        self.client.set_config(NEVER_AGAIN)
        self._listen(manual_ack)

    def _logger(self, name):
        """It tells of PINGRESP in its log, and there only."""
        logger = logging.Logger(name, logging.DEBUG)
        logger.addFilter(lambda record: "PINGRESP" in record.msg and self.pings.put_nowait(record))
        return logger

    def _listen(self, manual_ack):
        client = self.client
        client.on_connect = lambda _c, *connack: self.connacks.put_nowait(connack)
        client.on_message = self._hold if manual_ack else self._take
        client.on_subscribe = lambda _c, _mid, codes, _p: self.acks.put_nowait(codes)
        client.on_unsubscribe = lambda _c, _mid, codes: self.acks.put_nowait(codes)
        client.on_disconnect = lambda _c, packet: self.ends.put_nowait(packet)

    def _take(self, _client, topic, payload, qos, properties):
        self.messages.put_nowait((topic, bytes(payload), qos, properties))

    async def _hold(self, _client, topic, payload, qos, properties):
        """It acknowledges a message when this has come to its end."""
        self._take(_client, topic, payload, qos, properties)
        if qos > 0:
            await self.allowed.get()
        return 0

    async def connects(self, port):
        connecting = self.client.connect(
            "127.0.0.1", port, keepalive=self.keep_alive, version=self.version
        )
        await soon(connecting)
        session_present, _code, self.properties = await soon(self.connacks.get())
        self.session_present = bool(session_present)

    async def subscribe(self, topic_filter, qos=2, **options):
        """Options in gmqtt's words: no_local, retain_as_published, retain_handling_options."""
        self.client.subscribe(topic_filter, qos, **options)
        expect(await soon(self.acks.get()), (qos,))

    async def unsubscribe(self, topic_filter):
        """Says the Reason Codes, which there are in 5.0."""
        self.client.unsubscribe(topic_filter)
        return await soon(self.acks.get())

    async def publish(self, topic, payload, qos=1, retain=False, **properties):
        self.client.publish(topic, payload, qos, retain, **properties)
        await soon(self.unacknowledged.wait_empty())

    async def receives(self, topic, payload, qos=1, retain=False):
        *message, properties = await soon(self.messages.get())
        expect((*message, bool(properties["retain"])), (topic, payload, qos, retain))
        return properties

    async def leave(self, with_will=False, **properties):
        """Ends with DISCONNECT. A message that nobody expected makes the scenario fail."""
        await soon(self.client.disconnect(WITH_WILL if with_will else 0, **properties))
        expect(self.messages.qsize(), 0)

    async def has_ended(self):
        """Says the Reason Code of the server's DISCONNECT, if there was one."""
        packet = await soon(self.ends.get())
        await self.leave()
        return packet[0] if packet else None

    async def vanish(self):
        """Ends the connection without DISCONNECT."""
        self.client._connection._transport.abort()
        expect(await self.has_ended(), None)


def message(topic, payload, qos=1, **properties):
    return gmqtt.Message(topic, payload, qos, **properties)


async def soon(awaitable):
    return await asyncio.wait_for(awaitable, PATIENCE)


def expect(actual, wanted):
    if actual != wanted:
        raise AssertionError(f"expected {brief(wanted)}, not {brief(actual)}")


def brief(value):
    text = repr(value)
    return text if len(text) < 200 else f"{text[:200]}... ({len(text)} characters)"
