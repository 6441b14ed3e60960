"""A client for scripts/scale.sh: makes a broker keep many of one thing, and waits for its answers.

    python3 scripts/scale_client.py PORT retained|subscriptions|wildcards|groups COUNT

Four clients share the work. The connections stay open until a line comes on the standard input.
"""

import socket
import struct
import sys

CLIENTS = 4
AT_ONCE = 500


def text(value):
    encoded = value.encode()
    return struct.pack(">H", len(encoded)) + encoded


def packet(first, body):
    """An MQTT packet with its fixed header."""
    length, rest = b"", len(body)
    while True:
        rest, digit = divmod(rest, 128)
        length += bytes([digit | (0x80 if rest else 0)])
        if not rest:
            return bytes([first]) + length + body


class Client:
    """One connection that waits for each answer."""

    def __init__(self, port, name):
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.read = self.socket.makefile("rb")
        connect = text("MQTT") + bytes([4, 2]) + struct.pack(">H", 0) + text(name)
        self.socket.sendall(packet(0x10, connect))
        assert self.answer(0x20)[1] == 0, "CONNECT is accepted"

    def answer(self, expected):
        """The body of the next packet, which has this type."""
        first = self.read.read(1)[0]
        length, shift = 0, 0
        while True:
            digit = self.read.read(1)[0]
            length |= (digit & 0x7F) << shift
            shift += 7
            if not digit & 0x80:
                break
        body = self.read.read(length)
        assert first & 0xF0 == expected, hex(first)
        return body

    def retain(self, topics):
        """Publishes retained messages of 64 bytes at QoS 1."""
        packets = [
            packet(0x33, text(topic) + struct.pack(">H", number + 1) + bytes(64))
            for number, topic in enumerate(topics)
        ]
        self.socket.sendall(b"".join(packets))
        for _ in topics:
            self.answer(0x40)

    def subscribe(self, filters):
        """Subscribes at QoS 0 with one packet."""
        body = struct.pack(">H", 1) + b"".join(text(it) + b"\0" for it in filters)
        self.socket.sendall(packet(0x82, body))
        assert 0x80 not in self.answer(0x90)[2:], "each subscription is granted"


def work(client, kind, numbers):
    if kind == "retained":
        return client.retain([f"site/{n % 100:03}/device/{n:08}/t" for n in numbers])
    name = {
        "subscriptions": "site/{:03}/device/{:08}/state",
        "wildcards": "site/{:03}/device/{:08}/+/s/#",
        "groups": "$share/workers/site/{:03}/{:08}/s",
    }[kind]
    return client.subscribe([name.format(n % 100, n) for n in numbers])


def main():
    port, kind, count = int(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    clients = [Client(port, f"scale-{number}") for number in range(CLIENTS)]
    for begin in range(0, count, AT_ONCE):
        numbers = range(begin, min(begin + AT_ONCE, count))
        work(clients[begin // AT_ONCE % CLIENTS], kind, numbers)
    print("done", flush=True)
    sys.stdin.readline()


main()
