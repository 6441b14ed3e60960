"""What only MQTT 5.0 has, asked of the broker with Eclipse paho-mqtt.

paho has no AUTH packet, and does not resolve Topic Aliases that a server assigns: it announces
none.
"""

from paho.mqtt.packettypes import PacketTypes

from paho_peer import PATIENCE, Peer, expect, properties

NO_MATCHING_SUBSCRIBERS = 0x10
NO_SUBSCRIPTION_EXISTED = 0x11
BAD_AUTHENTICATION_METHOD = 0x8C
PACKET_TOO_LARGE = 0x95
PAIRS = [("b", "1"), ("a", "2"), ("b", "1"), ("ü", ""), ("a", "0")]


def session_expiry(place):
    """The Will comes with the end of the session, so that nobody has to watch a clock."""
    watcher = place.peer("watcher")
    watcher.subscribe(place.topic("will"))
    said = (place.topic("will"), b"expired", 1, False, will_properties(WillDelayInterval=3600))
    bob = place.peer("bob", persistent=True, will=said, SessionExpiryInterval=1)
    bob.vanish()
    watcher.receives(place.topic("will"), b"expired")
    bob = place.peer("bob", persistent=True)
    expect(bob.session_present, False)
    bob.leave(SessionExpiryInterval=0)
    watcher.leave()


def will_delay(place):
    """A client that comes back in time is not missed; one that does not is."""
    watcher = place.peer("watcher")
    watcher.subscribe(place.topic("+"))
    back = (place.topic("back"), b"unsaid", 1, False, will_properties(WillDelayInterval=1))
    gone = (place.topic("gone"), b"said", 1, False, will_properties(WillDelayInterval=2))
    place.peer("back", persistent=True, will=back).vanish()
    place.peer("gone", persistent=True, will=gone).vanish()
    returned = place.peer("back", persistent=True)
    expect(returned.session_present, True)
    watcher.receives(place.topic("gone"), b"said")
    returned.leave(SessionExpiryInterval=0)
    place.peer("gone").leave()
    watcher.leave()


def message_expiry(place):
    """Two seconds, told by a Will that is due after them, are taken from every interval."""
    alice, bob = place.peer("alice"), place.peer("bob", persistent=True, will=left(place))
    bob.subscribe(place.topic("queued"))
    leaves(place, bob)
    for topic, retain in (("queued", False), ("retained/late", True)):
        alice.publish(place.topic(topic), b"late", retain=retain, MessageExpiryInterval=1)
    for topic, retain in (("queued", False), ("retained/good", True)):
        alice.publish(place.topic(topic), b"good", retain=retain, MessageExpiryInterval=100)
    seconds_pass(place, 2)
    bob = place.peer("bob", persistent=True)
    is_older(bob.receives(place.topic("queued"), b"good"))
    bob.subscribe(place.topic("retained/+"))
    is_older(bob.receives(place.topic("retained/good"), b"good", retain=True))
    alice.publish(place.topic("retained/good"), b"", retain=True)
    bob.receives(place.topic("retained/good"), b"")
    bob.leave(SessionExpiryInterval=0)
    alice.leave()


def seconds_pass(place, seconds):
    watcher = place.peer("clock")
    watcher.subscribe(place.topic("clock"))
    due = (place.topic("clock"), b"due", 1, False, will_properties(WillDelayInterval=seconds))
    place.peer("ticking", persistent=True, will=due, SessionExpiryInterval=60).vanish()
    watcher.receives(place.topic("clock"), b"due")
    watcher.leave()


def is_older(message):
    expect(1 <= message.properties.MessageExpiryInterval <= 98, True)


def session_expiry_changed_by_disconnect(place):
    for interval, present in [(3600, False), (0, True), (0, False)]:
        bob = place.peer("bob", persistent=True, will=left(place))
        expect(bob.session_present, present)
        leaves(place, bob, SessionExpiryInterval=interval)


def clean_start(place):
    """It ends the earlier session at once, and begins one that lasts."""
    bob = place.peer("bob", persistent=True)
    bob.subscribe(place.topic("earlier"))
    bob.leave()
    bob = place.peer("bob", SessionExpiryInterval=3600)
    expect(bob.session_present, False)
    bob.publish(place.topic("earlier"), b"to nobody")
    bob.leave()
    bob = place.peer("bob", persistent=True)
    expect(bob.session_present, True)
    bob.leave(SessionExpiryInterval=0)


def what_the_server_announces(place):
    peer = place.peer("a")
    for limit in ("ReceiveMaximum", "MaximumPacketSize", "TopicAliasMaximum"):
        expect(getattr(peer.properties, limit) > 0, True)
    peer.leave()


def receive_maximum(place):
    """What goes beyond it waits; a message at QoS 0 needs no acknowledgement and passes it."""
    alice, bob = place.peer("alice"), place.peer("bob", manual_ack=True, ReceiveMaximum=2)
    bob.subscribe(place.topic("+"))
    for n in range(5):
        alice.publish(place.topic("t"), b"%d" % n)
    alice.publish(place.topic("behind"), b"", qos=0)
    unacknowledged = [bob.receives(place.topic("t"), b"%d" % n) for n in range(2)]
    bob.receives(place.topic("behind"), b"", qos=0)
    for n in range(2, 5):
        bob.client.ack(unacknowledged.pop(0).mid, 1)
        unacknowledged.append(bob.receives(place.topic("t"), b"%d" % n))
    for message in unacknowledged:
        bob.client.ack(message.mid, 1)
    bob.leave()
    alice.leave()


def maximum_packet_size(place):
    """A message too large for one subscriber is dropped for it alone."""
    alice, bob = place.peer("alice"), place.peer("bob", MaximumPacketSize=200)
    carol = place.peer("carol")
    for peer in (bob, carol):
        peer.subscribe(place.topic("t"))
    for payload in (b"x" * 300, b"small"):
        alice.publish(place.topic("t"), payload)
        carol.receives(place.topic("t"), payload)
    bob.receives(place.topic("t"), b"small")
    for peer in (alice, bob, carol):
        peer.leave()


def larger_than_the_server_takes(place):
    alice = place.peer("alice")
    alice.client.publish(place.topic("t"), b"x" * alice.properties.MaximumPacketSize, 1)
    expect(alice.has_ended().value, PACKET_TOO_LARGE)


def topic_aliases(place):
    """One alias for two topics in turn, and another that keeps its own."""
    alice, bob = place.peer("alice"), place.peer("bob")
    bob.subscribe(place.topic("#"))
    expect(alice.properties.TopicAliasMaximum >= 2, True)
    for topic, alias, qos in [("1", 1, 0), ("2", 2, 1), ("3", 1, 2)]:
        alice.publish(place.topic(topic), b"named", qos, TopicAlias=alias)
        bob.receives(place.topic(topic), b"named", qos)
        alice.publish("", b"by alias", qos, TopicAlias=alias)
        bob.receives(place.topic(topic), b"by alias", qos)
    alice.publish("", b"by alias", TopicAlias=2)
    message = bob.receives(place.topic("2"), b"by alias")
    expect(hasattr(message.properties, "TopicAlias"), False)
    bob.leave()
    alice.leave()


def user_properties(place):
    """All of them, twins too, in the order in which they were sent."""
    alice, bob = place.peer("alice"), place.peer("bob")
    bob.subscribe(place.topic("t"))
    for qos in range(3):
        alice.publish(place.topic("t"), b"", qos, UserProperty=PAIRS)
        expect(bob.receives(place.topic("t"), b"", qos).properties.UserProperty, PAIRS)
    bob.leave()
    alice.leave()


def request_and_response(place):
    asks, answers = place.peer("asks"), place.peer("answers")
    asks.subscribe(place.topic("answer"))
    answers.subscribe(place.topic("question"))
    asks.publish(
        place.topic("question"),
        b"6 * 7",
        ResponseTopic=place.topic("answer"),
        CorrelationData=b"\x00\xff",
        ContentType="text/plain",
        PayloadFormatIndicator=1,
    )
    question = answers.receives(place.topic("question"), b"6 * 7").properties
    expect((question.ContentType, question.PayloadFormatIndicator), ("text/plain", 1))
    answers.publish(question.ResponseTopic, b"42", CorrelationData=question.CorrelationData)
    answer = asks.receives(place.topic("answer"), b"42").properties
    expect(answer.CorrelationData, b"\x00\xff")
    asks.leave()
    answers.leave()


def will_with_properties(place):
    watcher = place.peer("watcher")
    watcher.subscribe(place.topic("will"))
    said = will_properties(
        ContentType="text/plain",
        ResponseTopic="somewhere/else",
        CorrelationData=b"\x01",
        PayloadFormatIndicator=1,
        MessageExpiryInterval=1000,
        UserProperty=PAIRS,
    )
    place.peer("abrupt", will=(place.topic("will"), b"said", 1, False, said)).vanish()
    heard = watcher.receives(place.topic("will"), b"said").properties
    expect((heard.ContentType, heard.ResponseTopic), ("text/plain", "somewhere/else"))
    expect((heard.CorrelationData, heard.PayloadFormatIndicator), (b"\x01", 1))
    expect(heard.UserProperty, PAIRS)
    expect(990 <= heard.MessageExpiryInterval <= 1000, True)
    watcher.leave()


def no_local(place):
    alice, bob = place.peer("alice"), place.peer("bob")
    bob.subscribe(place.topic("t"), noLocal=True)
    bob.publish(place.topic("t"), b"own")
    alice.publish(place.topic("t"), b"another's")
    bob.receives(place.topic("t"), b"another's")
    bob.leave()
    alice.leave()


def retain_as_published(place):
    alice, bob, carol = place.peer("alice"), place.peer("bob"), place.peer("carol")
    bob.subscribe(place.topic("t"), retainAsPublished=True)
    carol.subscribe(place.topic("t"), retainAsPublished=False)
    for payload, retain in [(b"kept", True), (b"passing", False), (b"", True)]:
        alice.publish(place.topic("t"), payload, retain=retain)
        bob.receives(place.topic("t"), payload, retain=retain)
        carol.receives(place.topic("t"), payload, retain=False)
    for peer in (alice, bob, carol):
        peer.leave()


def retain_handling(place):
    """0 always, 1 for a new subscription, 2 never."""
    alice = place.peer("alice")
    alice.publish(place.topic("t"), b"kept", retain=True)
    for handling, copies in [(0, 2), (1, 1), (2, 0)]:
        bob = place.peer("bob")
        for _ in range(2):
            bob.subscribe(place.topic("t"), retainHandling=handling)
        for _ in range(copies):
            bob.receives(place.topic("t"), b"kept", retain=True)
        bob.publish(place.topic("t"), b"live")
        bob.receives(place.topic("t"), b"live")
        bob.leave()
    alice.publish(place.topic("t"), b"", retain=True)
    alice.leave()


def subscription_identifiers(place):
    """A message by several subscriptions carries what identifies each of them."""
    alice, bob = place.peer("alice"), place.peer("bob")
    bob.subscribe(place.topic("+/b"), identifier=1)
    bob.subscribe(place.topic("a/#"), identifier=268_435_455)
    bob.subscribe(place.topic("plain"))
    for topic, identifiers in [("a/b", [1, 268_435_455]), ("x/b", [1]), ("plain", [])]:
        alice.publish(place.topic(topic), b"")
        message = bob.receives(place.topic(topic), b"")
        heard = getattr(message.properties, "SubscriptionIdentifier", [])
        expect(sorted(heard), identifiers)
    bob.leave()
    alice.leave()


def shared_subscription(place):
    """Each message goes to one member, and each member gets some."""
    alice, one, two = place.peer("alice"), place.peer("one"), place.peer("two")
    members = {"one": one, "two": two}
    for member in members.values():
        member.subscribe(f"$share/group/{place.topic('t')}")
        member.subscribe(place.topic("end"))
    for n in range(20):
        alice.publish(place.topic("t"), b"%d" % n)
    alice.publish(place.topic("end"), b"")
    shares = {name: until_the_end(place, member) for name, member in members.items()}
    expect(sorted(shares["one"] + shares["two"]), list(range(20)))
    expect(min(len(share) for share in shares.values()) > 0, True)
    for peer in (alice, one, two):
        peer.leave()


def until_the_end(place, member):
    share = []
    while (message := member.messages.get(timeout=PATIENCE)).topic != place.topic("end"):
        share.append(int(message.payload))
    expect(share, sorted(share))
    return share


def assigned_client_identifier(place):
    """It names a session like any other."""
    nameless = Peer(place.port, place.version, "", SessionExpiryInterval=3600)
    name = nameless.properties.AssignedClientIdentifier
    nameless.leave()
    named = Peer(place.port, place.version, name, persistent=True)
    expect(named.session_present, True)
    expect(hasattr(named.properties, "AssignedClientIdentifier"), False)
    named.leave(SessionExpiryInterval=0)


def reason_codes(place):
    """paho does not look at the Reason Code of a PUBREC."""
    alice = place.peer("alice")
    expect(alice.publish(place.topic("t"), b""), NO_MATCHING_SUBSCRIBERS)
    alice.subscribe(place.topic("t"))
    expect(alice.publish(place.topic("t"), b""), 0)
    alice.receives(place.topic("t"), b"")
    for code in (0, NO_SUBSCRIPTION_EXISTED):
        expect([c.value for c in alice.unsubscribed(place.topic("t"))], [code])
    alice.leave()


def unknown_authentication_method(place):
    """paho has no AUTH, so a method that the server does not know is as far as it goes."""
    place.peer("a", refused=BAD_AUTHENTICATION_METHOD, AuthenticationMethod="none").has_ended()


def left(place):
    return (place.topic("left"), b"", 1)


def leaves(place, peer, **disconnect):
    """Asks for its Will when it ends: whoever hears that knows that the server has seen the end."""
    watcher = place.peer("watcher")
    watcher.subscribe(place.topic("left"))
    peer.leave(with_will=True, **disconnect)
    watcher.receives(place.topic("left"), b"")
    watcher.leave()


def will_properties(**named):
    return properties(PacketTypes.WILLMESSAGE, **named)


# These wait for seconds to pass, and run beside all others.
PATIENT = [session_expiry, will_delay, message_expiry]

SCENARIOS = [
    session_expiry_changed_by_disconnect,
    clean_start,
    what_the_server_announces,
    receive_maximum,
    maximum_packet_size,
    larger_than_the_server_takes,
    topic_aliases,
    user_properties,
    request_and_response,
    will_with_properties,
    no_local,
    retain_as_published,
    retain_handling,
    subscription_identifiers,
    shared_subscription,
    assigned_client_identifier,
    reason_codes,
    unknown_authentication_method,
]

NOT_ON_MOSQUITTO = {
    larger_than_the_server_takes: "its reset may overtake its DISCONNECT",
    subscription_identifiers: "it names one of the subscriptions that a message matches",
}
