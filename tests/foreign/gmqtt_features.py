"""What only MQTT 5.0 has, asked of the broker with gmqtt.

gmqtt chooses a Client Identifier itself when it is given none, does not pass the Reason Codes of
PUBACK and PUBREC on, and has no AUTH packet.
"""

from gmqtt_peer import expect, message, soon

NO_SUBSCRIPTION_EXISTED = 0x11
BAD_AUTHENTICATION_METHOD = 0x8C
PAIRS = [("b", "1"), ("a", "2"), ("b", "1"), ("ü", ""), ("a", "0")]


async def session_expiry(place):
    """The Will comes with the end of the session, so that nobody has to watch a clock."""
    watcher = await place.peer("watcher")
    await watcher.subscribe(place.topic("will"))
    said = message(place.topic("will"), b"expired", will_delay_interval=3600)
    bob = await place.peer("bob", persistent=True, will=said, session_expiry_interval=1)
    await bob.vanish()
    await watcher.receives(place.topic("will"), b"expired")
    bob = await place.peer("bob", persistent=True)
    expect(bob.session_present, False)
    await bob.leave(session_expiry_interval=0)
    await watcher.leave()


async def will_delay(place):
    """A client that comes back in time is not missed; one that does not is."""
    watcher = await place.peer("watcher")
    await watcher.subscribe(place.topic("+"))
    for role, delay in [("back", 1), ("gone", 2)]:
        said = message(place.topic(role), b"said", will_delay_interval=delay)
        await (await place.peer(role, persistent=True, will=said)).vanish()
    back = await place.peer("back", persistent=True)
    expect(back.session_present, True)
    await watcher.receives(place.topic("gone"), b"said")
    await back.leave(session_expiry_interval=0)
    await watcher.leave()


async def message_expiry(place):
    """Two seconds, told by a Will that is due after them, are taken from every interval."""
    alice = await place.peer("alice")
    bob = await place.peer("bob", persistent=True, will=left(place))
    await bob.subscribe(place.topic("queued"))
    await leaves(place, bob)
    for payload, interval in [(b"late", 1), (b"good", 100)]:
        expiry = {"message_expiry_interval": interval}
        await alice.publish(place.topic("queued"), payload, **expiry)
        retained = place.topic(f"retained/{payload.decode()}")
        await alice.publish(retained, payload, retain=True, **expiry)
    await seconds_pass(place, 2)
    bob = await place.peer("bob", persistent=True)
    is_older(await bob.receives(place.topic("queued"), b"good"))
    await bob.subscribe(place.topic("retained/+"))
    is_older(await bob.receives(place.topic("retained/good"), b"good", retain=True))
    await alice.publish(place.topic("retained/good"), b"", retain=True)
    await bob.receives(place.topic("retained/good"), b"")
    await bob.leave(session_expiry_interval=0)
    await alice.leave()


async def seconds_pass(place, seconds):
    watcher = await place.peer("clock")
    await watcher.subscribe(place.topic("clock"))
    due = message(place.topic("clock"), b"due", will_delay_interval=seconds)
    await (await place.peer("ticking", will=due, session_expiry_interval=60)).vanish()
    await watcher.receives(place.topic("clock"), b"due")
    await watcher.leave()


def is_older(properties):
    [left_of_it] = properties["message_expiry_interval"]
    expect(1 <= left_of_it <= 98, True)


async def session_expiry_changed_by_disconnect(place):
    for interval, present in [(3600, False), (0, True), (0, False)]:
        bob = await place.peer("bob", persistent=True, will=left(place))
        expect(bob.session_present, present)
        await leaves(place, bob, session_expiry_interval=interval)


async def clean_start(place):
    """It ends the earlier session at once, and begins one that lasts."""
    bob = await place.peer("bob", persistent=True)
    await bob.subscribe(place.topic("earlier"))
    await bob.leave()
    bob = await place.peer("bob", session_expiry_interval=3600)
    expect(bob.session_present, False)
    await bob.publish(place.topic("earlier"), b"to nobody")
    await bob.leave()
    bob = await place.peer("bob", persistent=True)
    expect(bob.session_present, True)
    await bob.leave(session_expiry_interval=0)


async def receive_maximum(place):
    """What goes beyond it waits; a message at QoS 0 needs no acknowledgement and passes it."""
    alice = await place.peer("alice")
    bob = await place.peer("bob", manual_ack=True, receive_maximum=2)
    await bob.subscribe(place.topic("+"))
    for n in range(5):
        await alice.publish(place.topic("t"), b"%d" % n)
    await alice.publish(place.topic("behind"), b"", qos=0)
    for n in range(2):
        await bob.receives(place.topic("t"), b"%d" % n)
    await bob.receives(place.topic("behind"), b"", qos=0)
    for n in range(2, 5):
        bob.allowed.put_nowait(None)
        await bob.receives(place.topic("t"), b"%d" % n)
    for _ in range(2):
        bob.allowed.put_nowait(None)
    await bob.leave()
    await alice.leave()


async def maximum_packet_size(place):
    """A message too large for one subscriber is dropped for it alone."""
    alice, carol = await place.peer("alice"), await place.peer("carol")
    bob = await place.peer("bob", maximum_packet_size=200)
    for peer in (bob, carol):
        await peer.subscribe(place.topic("t"))
    for payload in (b"x" * 300, b"small"):
        await alice.publish(place.topic("t"), payload)
        await carol.receives(place.topic("t"), payload)
    await bob.receives(place.topic("t"), b"small")
    for peer in (alice, bob, carol):
        await peer.leave()


async def topic_aliases(place):
    """One alias for two topics in turn, and another that keeps its own."""
    alice, bob = await place.peer("alice"), await place.peer("bob")
    await bob.subscribe(place.topic("#"))
    for topic, alias, qos in [("1", 1, 0), ("2", 2, 1), ("3", 1, 2)]:
        for name, payload in [(place.topic(topic), b"named"), ("", b"by alias")]:
            await alice.publish(name, payload, qos, topic_alias=alias)
            await bob.receives(place.topic(topic), payload, qos)
    await alice.publish("", b"by alias", topic_alias=2)
    properties = await bob.receives(place.topic("2"), b"by alias")
    expect("topic_alias" in properties, False)
    await bob.leave()
    await alice.leave()


async def topic_aliases_from_the_server(place):
    """Whether the server makes use of them or not, every message arrives under its own name."""
    alice, bob = await place.peer("alice"), await place.peer("bob", topic_alias_maximum=3)
    await bob.subscribe(place.topic("#"))
    for n in range(40):
        topic = place.topic(n % 5)
        await alice.publish(topic, b"%d" % n, n % 3)
        await bob.receives(topic, b"%d" % n, n % 3)
    await bob.leave()
    await alice.leave()


async def user_properties(place):
    """All of them, twins too, in the order in which they were sent."""
    alice, bob = await place.peer("alice"), await place.peer("bob")
    await bob.subscribe(place.topic("t"))
    for qos in range(3):
        await alice.publish(place.topic("t"), b"", qos, user_property=PAIRS)
        expect((await bob.receives(place.topic("t"), b"", qos))["user_property"], PAIRS)
    await bob.leave()
    await alice.leave()


async def request_and_response(place):
    asks, answers = await place.peer("asks"), await place.peer("answers")
    await asks.subscribe(place.topic("answer"))
    await answers.subscribe(place.topic("question"))
    await asks.publish(
        place.topic("question"),
        b"6 * 7",
        response_topic=place.topic("answer"),
        correlation_data=b"\x00\xff",
        content_type="text/plain",
        payload_format_id=1,
    )
    question = await answers.receives(place.topic("question"), b"6 * 7")
    expect((question["content_type"], question["payload_format_id"]), (["text/plain"], [1]))
    [response_topic], [data] = question["response_topic"], question["correlation_data"]
    await answers.publish(response_topic, b"42", correlation_data=data)
    answer = await asks.receives(place.topic("answer"), b"42")
    expect(answer["correlation_data"], [b"\x00\xff"])
    await asks.leave()
    await answers.leave()


async def will_with_properties(place):
    watcher = await place.peer("watcher")
    await watcher.subscribe(place.topic("will"))
    properties = {
        "content_type": "text/plain",
        "response_topic": "somewhere/else",
        "correlation_data": b"\x01",
        "payload_format_id": 1,
    }
    more = {"message_expiry_interval": 1000, "user_property": PAIRS}
    said = message(place.topic("will"), b"said", **properties, **more)
    await (await place.peer("abrupt", will=said)).vanish()
    heard = await watcher.receives(place.topic("will"), b"said")
    expect({name: heard[name] for name in properties}, {n: [v] for n, v in properties.items()})
    expect(heard["user_property"], PAIRS)
    [interval] = heard["message_expiry_interval"]
    expect(990 <= interval <= 1000, True)
    await watcher.leave()


async def no_local(place):
    alice, bob = await place.peer("alice"), await place.peer("bob")
    await bob.subscribe(place.topic("t"), no_local=True)
    await bob.publish(place.topic("t"), b"own")
    await alice.publish(place.topic("t"), b"another's")
    await bob.receives(place.topic("t"), b"another's")
    await bob.leave()
    await alice.leave()


async def retain_as_published(place):
    alice, bob, carol = [await place.peer(role) for role in ("alice", "bob", "carol")]
    await bob.subscribe(place.topic("t"), retain_as_published=True)
    await carol.subscribe(place.topic("t"), retain_as_published=False)
    for payload, retain in [(b"kept", True), (b"passing", False), (b"", True)]:
        await alice.publish(place.topic("t"), payload, retain=retain)
        await bob.receives(place.topic("t"), payload, retain=retain)
        await carol.receives(place.topic("t"), payload, retain=False)
    for peer in (alice, bob, carol):
        await peer.leave()


async def retain_handling(place):
    """0 always, 1 for a new subscription, 2 never."""
    alice = await place.peer("alice")
    await alice.publish(place.topic("t"), b"kept", retain=True)
    for handling, copies in [(0, 2), (1, 1), (2, 0)]:
        bob = await place.peer("bob")
        for _ in range(2):
            await bob.subscribe(place.topic("t"), retain_handling_options=handling)
        for _ in range(copies):
            await bob.receives(place.topic("t"), b"kept", retain=True)
        await bob.publish(place.topic("t"), b"live")
        await bob.receives(place.topic("t"), b"live")
        await bob.leave()
    await alice.publish(place.topic("t"), b"", retain=True)
    await alice.leave()


async def subscription_identifiers(place):
    """A message by several subscriptions carries what identifies each of them."""
    alice, bob = await place.peer("alice"), await place.peer("bob")
    await bob.subscribe(place.topic("+/b"), subscription_identifier=1)
    await bob.subscribe(place.topic("a/#"), subscription_identifier=268_435_455)
    await bob.subscribe(place.topic("plain"))
    for topic, identifiers in [("a/b", [1, 268_435_455]), ("x/b", [1]), ("plain", [])]:
        await alice.publish(place.topic(topic), b"")
        heard = await bob.receives(place.topic(topic), b"")
        expect(sorted(heard.get("subscription_identifier", [])), identifiers)
    await bob.leave()
    await alice.leave()


async def shared_subscription(place):
    """Each message goes to one member, and each member gets some."""
    alice, *members = [await place.peer(role) for role in ("alice", "one", "two")]
    for member in members:
        await member.subscribe(f"$share/group/{place.topic('t')}")
        await member.subscribe(place.topic("end"))
    for n in range(20):
        await alice.publish(place.topic("t"), b"%d" % n)
    await alice.publish(place.topic("end"), b"")
    one, two = [await until_the_end(place, member) for member in members]
    expect(sorted(one + two), list(range(20)))
    expect(min(len(one), len(two)) > 0, True)
    for peer in (alice, *members):
        await peer.leave()


async def until_the_end(place, member):
    share = []
    while (heard := await soon(member.messages.get()))[0] != place.topic("end"):
        share.append(int(heard[1]))
    expect(share, sorted(share))
    return share


async def reason_codes(place):
    alice = await place.peer("alice")
    await alice.subscribe(place.topic("t"))
    for code in (0, NO_SUBSCRIPTION_EXISTED):
        expect(await alice.unsubscribe(place.topic("t")), (code,))
    await alice.leave()


async def unknown_authentication_method(place):
    expect(await place.refusal("a", auth_method="none"), BAD_AUTHENTICATION_METHOD)


def left(place):
    return message(place.topic("left"), b"")


async def leaves(place, peer, **disconnect):
    """Asks for its Will when it ends: whoever hears that knows that the server has seen the end."""
    watcher = await place.peer("watcher")
    await watcher.subscribe(place.topic("left"))
    await peer.leave(with_will=True, **disconnect)
    await watcher.receives(place.topic("left"), b"")
    await watcher.leave()


# These wait for seconds to pass, and run beside all others.
PATIENT = [session_expiry, will_delay, message_expiry]

SCENARIOS = [
    session_expiry_changed_by_disconnect,
    clean_start,
    receive_maximum,
    maximum_packet_size,
    topic_aliases,
    topic_aliases_from_the_server,
    user_properties,
    request_and_response,
    will_with_properties,
    no_local,
    retain_as_published,
    retain_handling,
    subscription_identifiers,
    shared_subscription,
    reason_codes,
    unknown_authentication_method,
]

NOT_ON_MOSQUITTO = {
    subscription_identifiers: "it names one of the subscriptions that a message matches",
}
