// What only MQTT 5.0 has, asked of the broker with MQTT.js.
//
// It keeps User Properties as one list of values for each name, so their order holds within a name.

import assert from 'node:assert/strict'

import { scram } from './scram.mjs'

const NO_MATCHING_SUBSCRIBERS = 0x10
const NO_SUBSCRIPTION_EXISTED = 0x11
const CONTINUE_AUTHENTICATION = 0x18
const RE_AUTHENTICATE = 0x19
const NOT_AUTHORIZED = 0x87
const BAD_AUTHENTICATION_METHOD = 0x8c
const PACKET_TOO_LARGE = 0x95
const PAIRS = { b: ['1', '3', '2', '3'], a: 'one', ü: '' }
const LASTING = { persistent: true, properties: { sessionExpiryInterval: 3600 } }

/** The Will comes with the end of the session, so that nobody has to watch a clock. */
async function sessionExpiry(place) {
  const watcher = await place.peer('watcher')
  await watcher.subscribe(place.topic('will'))
  const bob = await place.peer('bob', {
    ...will(place.topic('will'), 'expired', { willDelayInterval: 3600 }),
    persistent: true,
    properties: { sessionExpiryInterval: 1 },
  })
  await bob.vanish()
  await watcher.receives(place.topic('will'), 'expired')
  const after = await place.peer('bob', LASTING)
  assert.equal(after.sessionPresent, false)
  await after.leave(endOfSession)
  await watcher.leave()
}

/** A client that comes back in time is not missed; one that does not is. */
async function willDelay(place) {
  const watcher = await place.peer('watcher')
  await watcher.subscribe(place.topic('+'))
  for (const [role, willDelayInterval] of [['back', 1], ['gone', 2]]) {
    const said = will(place.topic(role), 'said', { willDelayInterval })
    const peer = await place.peer(role, { ...said, ...LASTING })
    await peer.vanish()
  }
  const back = await place.peer('back', LASTING)
  assert.equal(back.sessionPresent, true)
  await watcher.receives(place.topic('gone'), 'said')
  await back.leave(endOfSession)
  await watcher.leave()
}

/** Two seconds, told by a Will that is due after them, are taken from every interval. */
async function messageExpiry(place) {
  const alice = await place.peer('alice')
  const bob = await place.peer('bob', { ...will(place.topic('left'), ''), ...LASTING })
  await bob.subscribe(place.topic('queued'))
  await leaves(place, bob)
  for (const [payload, messageExpiryInterval] of [['late', 1], ['good', 100]]) {
    const properties = { messageExpiryInterval }
    await alice.publish(place.topic('queued'), payload, { properties })
    const retained = { retain: true, properties }
    await alice.publish(place.topic(`retained/${payload}`), payload, retained)
  }
  await secondsPass(place, 2)
  const after = await place.peer('bob', LASTING)
  isOlder(await after.receives(place.topic('queued'), 'good'))
  await after.subscribe(place.topic('retained/+'))
  isOlder(await after.receives(place.topic('retained/good'), 'good', { retain: true }))
  await alice.publish(place.topic('retained/good'), '', { retain: true })
  await after.receives(place.topic('retained/good'), '')
  await after.leave(endOfSession)
  await alice.leave()
}

async function secondsPass(place, willDelayInterval) {
  const watcher = await place.peer('clock')
  await watcher.subscribe(place.topic('clock'))
  const due = will(place.topic('clock'), 'due', { willDelayInterval })
  const ticking = await place.peer('ticking', { ...due, properties: { sessionExpiryInterval: 60 } })
  await ticking.vanish()
  await watcher.receives(place.topic('clock'), 'due')
  await watcher.leave()
}

function isOlder({ messageExpiryInterval }) {
  assert.ok(messageExpiryInterval >= 1 && messageExpiryInterval <= 98, messageExpiryInterval)
}

async function sessionExpiryChangedByDisconnect(place) {
  for (const [sessionExpiryInterval, present] of [[3600, false], [0, true], [0, false]]) {
    const bob = await place.peer('bob', { ...will(place.topic('left'), ''), ...LASTING })
    assert.equal(bob.sessionPresent, present)
    await leaves(place, bob, { sessionExpiryInterval })
  }
}

/** It ends the earlier session at once, and begins one that lasts. */
async function cleanStart(place) {
  const earlier = await place.peer('bob', LASTING)
  await earlier.subscribe(place.topic('earlier'))
  await earlier.leave()
  const clean = await place.peer('bob', { properties: { sessionExpiryInterval: 3600 } })
  assert.equal(clean.sessionPresent, false)
  await clean.publish(place.topic('earlier'), 'to nobody')
  await clean.leave()
  const after = await place.peer('bob', LASTING)
  assert.equal(after.sessionPresent, true)
  await after.leave(endOfSession)
}

async function whatTheServerAnnounces(place) {
  const peer = await place.peer('a')
  for (const limit of ['receiveMaximum', 'maximumPacketSize', 'topicAliasMaximum']) {
    assert.ok(peer.connack.properties[limit] > 0, limit)
  }
  await peer.leave()
}

/** What goes beyond it waits; a message at QoS 0 needs no acknowledgement and passes it. */
async function receiveMaximum(place) {
  const alice = await place.peer('alice')
  const bob = await place.peer('bob', { properties: { receiveMaximum: 2 } })
  const held = holdAcknowledgements(bob)
  await bob.subscribe(place.topic('+'))
  for (let n = 0; n < 5; n++) await alice.publish(place.topic('t'), String(n))
  await alice.publish(place.topic('behind'), '', { qos: 0 })
  await bob.receives(place.topic('t'), '0')
  await bob.receives(place.topic('t'), '1')
  await bob.receives(place.topic('behind'), '', { qos: 0 })
  for (const payload of ['2', '3', '4']) {
    held.shift()()
    await bob.receives(place.topic('t'), payload)
  }
  for (const release of held) release()
  await bob.leave()
  await alice.leave()
}

/** MQTT.js reads nothing more until it has sent a PUBACK: it is made to believe that it has. */
function holdAcknowledgements({ client }) {
  const held = []
  const send = client._sendPacket.bind(client)
  client._sendPacket = (packet, done, ...rest) => {
    if (packet.cmd !== 'puback') return send(packet, done, ...rest)
    held.push(() => send(packet))
    done()
  }
  return held
}

/** A message too large for one subscriber is dropped for it alone. */
async function maximumPacketSize(place) {
  const [alice, carol] = [await place.peer('alice'), await place.peer('carol')]
  const bob = await place.peer('bob', { properties: { maximumPacketSize: 200 } })
  for (const peer of [bob, carol]) await peer.subscribe(place.topic('t'))
  for (const payload of ['x'.repeat(300), 'small']) {
    await alice.publish(place.topic('t'), payload)
    await carol.receives(place.topic('t'), payload)
  }
  await bob.receives(place.topic('t'), 'small')
  for (const peer of [alice, bob, carol]) await peer.leave()
}

async function largerThanTheServerTakes(place) {
  const alice = await place.peer('alice')
  const payload = 'x'.repeat(alice.connack.properties.maximumPacketSize)
  alice.client.publish(place.topic('t'), payload, { qos: 0 })
  await alice.hasEnded()
  assert.deepEqual(alice.reasons, [PACKET_TOO_LARGE])
}

/** One alias for two topics in turn, and another that keeps its own. */
async function topicAliases(place) {
  const [alice, bob] = [await place.peer('alice'), await place.peer('bob')]
  await bob.subscribe(place.topic('#'))
  for (const [topic, topicAlias, qos] of [['1', 1, 0], ['2', 2, 1], ['3', 1, 2]]) {
    for (const [name, payload] of [[place.topic(topic), 'named'], ['', 'by alias']]) {
      await alice.publish(name, payload, { qos, properties: { topicAlias } })
      await bob.receives(place.topic(topic), payload, { qos })
    }
  }
  await alice.publish('', 'by alias', { properties: { topicAlias: 2 } })
  const { topicAlias } = await bob.receives(place.topic('2'), 'by alias')
  assert.equal(topicAlias, undefined)
  await bob.leave()
  await alice.leave()
}

/** MQTT.js chooses them by itself, and has to reuse them: the server allows fewer than there are. */
async function topicAliasesChosenByTheClient(place) {
  const alice = await place.peer('alice', { autoAssignTopicAlias: true })
  const bob = await place.peer('bob')
  await bob.subscribe(place.topic('#'))
  const topics = alice.connack.properties.topicAliasMaximum + 2
  for (let round = 0; round < 2; round++) {
    for (let n = 0; n < topics; n++) {
      await alice.publish(place.topic(n), String(round), { qos: 0 })
      await bob.receives(place.topic(n), String(round), { qos: 0 })
    }
  }
  await bob.leave()
  await alice.leave()
}

/** Whether the server makes use of them or not, every message arrives under its own name.
    Not at QoS 2: there MQTT.js keeps the packet until PUBREL, and forgets what its alias stood for. */
async function topicAliasesFromTheServer(place) {
  const alice = await place.peer('alice')
  const bob = await place.peer('bob', { properties: { topicAliasMaximum: 3 } })
  await bob.subscribe(place.topic('#'))
  for (let n = 0; n < 40; n++) {
    const topic = place.topic(n % 5)
    await alice.publish(topic, String(n), { qos: n % 2 })
    await bob.receives(topic, String(n), { qos: n % 2 })
  }
  await bob.leave()
  await alice.leave()
}

async function userProperties(place) {
  const [alice, bob] = [await place.peer('alice'), await place.peer('bob')]
  await bob.subscribe(place.topic('t'))
  for (const qos of [0, 1, 2]) {
    await alice.publish(place.topic('t'), '', { qos, properties: { userProperties: PAIRS } })
    hasPairs(await bob.receives(place.topic('t'), '', { qos }))
  }
  await bob.leave()
  await alice.leave()
}

function hasPairs({ userProperties }) {
  assert.deepEqual({ ...userProperties }, PAIRS)
}

async function requestAndResponse(place) {
  const [asks, answers] = [await place.peer('asks'), await place.peer('answers')]
  await asks.subscribe(place.topic('answer'))
  await answers.subscribe(place.topic('question'))
  const properties = {
    responseTopic: place.topic('answer'),
    correlationData: Buffer.from([0, 255]),
    contentType: 'text/plain',
    payloadFormatIndicator: true,
  }
  await asks.publish(place.topic('question'), '6 * 7', { properties })
  const question = await answers.receives(place.topic('question'), '6 * 7')
  assert.deepEqual({ ...question }, properties)
  const { responseTopic, correlationData } = question
  await answers.publish(responseTopic, '42', { properties: { correlationData } })
  const answer = await asks.receives(place.topic('answer'), '42')
  assert.deepEqual({ ...answer }, { correlationData })
  await asks.leave()
  await answers.leave()
}

async function willWithProperties(place) {
  const watcher = await place.peer('watcher')
  await watcher.subscribe(place.topic('will'))
  const properties = {
    contentType: 'text/plain',
    responseTopic: 'somewhere/else',
    correlationData: Buffer.from([1]),
    payloadFormatIndicator: true,
  }
  const more = { messageExpiryInterval: 1000, userProperties: PAIRS }
  const said = will(place.topic('will'), 'said', { ...properties, ...more })
  const abrupt = await place.peer('abrupt', said)
  await abrupt.vanish()
  const heard = await watcher.receives(place.topic('will'), 'said')
  const { messageExpiryInterval, userProperties, ...rest } = heard
  assert.deepEqual(rest, properties)
  hasPairs({ userProperties })
  assert.ok(messageExpiryInterval >= 990 && messageExpiryInterval <= 1000, messageExpiryInterval)
  await watcher.leave()
}

async function noLocal(place) {
  const [alice, bob] = [await place.peer('alice'), await place.peer('bob')]
  await bob.subscribe(place.topic('t'), 2, { nl: true })
  await bob.publish(place.topic('t'), 'own')
  await alice.publish(place.topic('t'), "another's")
  await bob.receives(place.topic('t'), "another's")
  await bob.leave()
  await alice.leave()
}

async function retainAsPublished(place) {
  const [alice, bob] = [await place.peer('alice'), await place.peer('bob')]
  const carol = await place.peer('carol')
  await bob.subscribe(place.topic('t'), 2, { rap: true })
  await carol.subscribe(place.topic('t'), 2, { rap: false })
  for (const [payload, retain] of [['kept', true], ['passing', false], ['', true]]) {
    await alice.publish(place.topic('t'), payload, { retain })
    await bob.receives(place.topic('t'), payload, { retain })
    await carol.receives(place.topic('t'), payload, { retain: false })
  }
  for (const peer of [alice, bob, carol]) await peer.leave()
}

/** 0 always, 1 for a new subscription, 2 never. */
async function retainHandling(place) {
  const alice = await place.peer('alice')
  await alice.publish(place.topic('t'), 'kept', { retain: true })
  for (const [rh, copies] of [[0, 2], [1, 1], [2, 0]]) {
    const bob = await place.peer('bob')
    for (let n = 0; n < 2; n++) await bob.subscribe(place.topic('t'), 2, { rh })
    for (let n = 0; n < copies; n++) await bob.receives(place.topic('t'), 'kept', { retain: true })
    await bob.publish(place.topic('t'), 'live')
    await bob.receives(place.topic('t'), 'live')
    await bob.leave()
  }
  await alice.publish(place.topic('t'), '', { retain: true })
  await alice.leave()
}

/** A message by several subscriptions carries what identifies each of them. */
async function subscriptionIdentifiers(place) {
  const [alice, bob] = [await place.peer('alice'), await place.peer('bob')]
  await bob.subscribe(place.topic('+/b'), 2, { identifier: 1 })
  await bob.subscribe(place.topic('a/#'), 2, { identifier: 268_435_455 })
  await bob.subscribe(place.topic('plain'))
  for (const [topic, identifiers] of [['a/b', [1, 268_435_455]], ['x/b', [1]], ['plain', []]]) {
    await alice.publish(place.topic(topic), '')
    const { subscriptionIdentifier = [] } = await bob.receives(place.topic(topic), '')
    assert.deepEqual([subscriptionIdentifier].flat().sort(), identifiers)
  }
  await bob.leave()
  await alice.leave()
}

/** Each message goes to one member, and each member gets some. */
async function sharedSubscription(place) {
  const alice = await place.peer('alice')
  const members = [await place.peer('one'), await place.peer('two')]
  for (const member of members) {
    await member.subscribe(`$share/group/${place.topic('t')}`)
    await member.subscribe(place.topic('end'))
  }
  for (let n = 0; n < 20; n++) await alice.publish(place.topic('t'), String(n))
  await alice.publish(place.topic('end'), '')
  const shares = [await untilTheEnd(place, members[0]), await untilTheEnd(place, members[1])]
  const all = shares.flat().sort((a, b) => a - b)
  assert.deepEqual(all, Array.from({ length: 20 }, (_, n) => n))
  for (const share of shares) assert.ok(share.length > 0)
  for (const peer of [alice, ...members]) await peer.leave()
}

async function untilTheEnd(place, member) {
  const share = []
  for (;;) {
    const { topic, payload } = await member.messages.take('end')
    if (topic === place.topic('end')) return share
    share.push(Number(payload))
  }
}

/** It names a session like any other. */
async function assignedClientIdentifier(place) {
  const nameless = await place.peer('', {
    clientId: '',
    properties: { sessionExpiryInterval: 3600 },
  })
  const clientId = nameless.connack.properties.assignedClientIdentifier
  await nameless.leave()
  const named = await place.peer('', { clientId, ...LASTING })
  assert.equal(named.sessionPresent, true)
  assert.equal(named.connack.properties.assignedClientIdentifier, undefined)
  await named.leave(endOfSession)
}

async function reasonCodes(place) {
  const alice = await place.peer('alice')
  await isPublished(place, alice, 1)
  for (const code of [0, NO_SUBSCRIPTION_EXISTED]) {
    const { granted } = await alice.unsubscribe(place.topic('t'))
    assert.deepEqual(granted, [code])
  }
  await alice.leave()
}

async function reasonCodesAtQos2(place) {
  const alice = await place.peer('alice')
  await isPublished(place, alice, 2)
  await alice.leave()
}

/** First for nobody, then for somebody. */
async function isPublished(place, peer, qos) {
  await peer.publish(place.topic('t'), '', { qos })
  assert.equal(peer.published, NO_MATCHING_SUBSCRIBERS)
  await peer.subscribe(place.topic('t'))
  await peer.publish(place.topic('t'), '', { qos })
  assert.equal(peer.published, 0)
  await peer.receives(place.topic('t'), '', { qos })
}

async function unknownAuthenticationMethod(place) {
  const properties = { authenticationMethod: 'none' }
  assert.equal(await place.refusal('a', { properties }), BAD_AUTHENTICATION_METHOD)
}

async function scramSha256(place) {
  await authenticates(place, 'SCRAM-SHA-256')
}

async function scramSha512(place) {
  await authenticates(place, 'SCRAM-SHA-512')
}

/** Lets itself in, proves itself again while messages go on, and knows the server by its answer. */
async function authenticates(place, method) {
  const proof = scram(method, 'ada', 'pencil')
  const alice = await place.peer('alice', proving(proof))
  proof.verify(alice.connack.properties.authenticationData)
  await alice.subscribe(place.topic('t'))
  await provesItselfAgain(alice, scram(method, 'ada', 'pencil'))
  await alice.publish(place.topic('t'), 'still here')
  await alice.receives(place.topic('t'), 'still here')
  await alice.leave()
}

async function provesItselfAgain(peer, proof) {
  proving(proof).prepare(peer)
  peer.client._sendPacket(auth(RE_AUTHENTICATE, proof, proof.first))
  const challenge = await peer.auths.take('challenge')
  assert.equal(challenge.reasonCode, CONTINUE_AUTHENTICATION)
  const { reasonCode, properties } = await peer.auths.take('success')
  assert.equal(reasonCode, 0)
  proof.verify(properties.authenticationData)
}

async function scramWithAWrongPassword(place) {
  const proof = scram('SCRAM-SHA-256', 'ada', 'crayon')
  assert.equal(await place.refusal('a', proving(proof)), NOT_AUTHORIZED)
}

/** The options of a client that proves who it is. */
function proving(proof) {
  return {
    properties: {
      sessionExpiryInterval: 0,
      authenticationMethod: proof.method,
      authenticationData: proof.first,
    },
    prepare: ({ client, auths }) => {
      auths.arrived.length = 0
      client.handleAuth = ({ reasonCode, properties }, answer) => {
        if (reasonCode !== CONTINUE_AUTHENTICATION) return answer()
        const data = proof.final(properties.authenticationData)
        answer(null, auth(CONTINUE_AUTHENTICATION, proof, data))
      }
    },
  }
}

function auth(reasonCode, { method }, authenticationData) {
  return {
    cmd: 'auth',
    reasonCode,
    properties: { authenticationMethod: method, authenticationData },
  }
}

function will(topic, payload, properties = {}) {
  return { will: { topic, payload, qos: 1, properties } }
}

const endOfSession = { properties: { sessionExpiryInterval: 0 } }

/** Asks for its Will when it ends: whoever hears that knows that the server has seen the end. */
async function leaves(place, peer, properties) {
  const watcher = await place.peer('watcher')
  await watcher.subscribe(place.topic('left'))
  await peer.leave({ withWill: true, properties })
  await watcher.receives(place.topic('left'), '')
  await watcher.leave()
}

/** These wait for seconds to pass, and run beside all others. */
export const PATIENT = [sessionExpiry, willDelay, messageExpiry]

export const SCENARIOS = [
  sessionExpiryChangedByDisconnect,
  cleanStart,
  whatTheServerAnnounces,
  receiveMaximum,
  maximumPacketSize,
  largerThanTheServerTakes,
  topicAliases,
  topicAliasesChosenByTheClient,
  topicAliasesFromTheServer,
  userProperties,
  requestAndResponse,
  willWithProperties,
  noLocal,
  retainAsPublished,
  retainHandling,
  subscriptionIdentifiers,
  sharedSubscription,
  assignedClientIdentifier,
  reasonCodes,
  reasonCodesAtQos2,
  unknownAuthenticationMethod,
  scramSha256,
  scramSha512,
  scramWithAWrongPassword,
]

const WITHOUT_SCRAM = 'it has no SCRAM of its own'
export const NOT_ON_MOSQUITTO = new Map([
  [largerThanTheServerTakes, 'its reset may overtake its DISCONNECT'],
  [subscriptionIdentifiers, 'it names one of the subscriptions that a message matches'],
  [reasonCodesAtQos2, 'it looks for subscribers after PUBREL'],
  [scramSha256, WITHOUT_SCRAM],
  [scramSha512, WITHOUT_SCRAM],
  [scramWithAWrongPassword, WITHOUT_SCRAM],
])
