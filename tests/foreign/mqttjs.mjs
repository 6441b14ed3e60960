// Drives the broker at 127.0.0.1:PORT with MQTT.js, in MQTT 3.1, 3.1.1 and 5.0.
//
// usage: mqttjs.mjs PORT
//
// Prints one line per scenario that holds; the first that does not ends the run with its error.

import assert from 'node:assert/strict'

import * as features from './mqttjs_features.mjs'
import { LARGE, Place, VERSIONS, idler, isKeptAliveByPings } from './mqttjs_peer.mjs'

const SESSION_TAKEN_OVER = 0x8e
const ON_MOSQUITTO = process.env.BROKER === 'mosquitto'

async function main(port) {
  const idlers = []
  for (const version of Object.keys(VERSIONS)) {
    idlers.push(await idler(new Place(port, version, 'idle')))
  }
  const patient = features.PATIENT.map((scenario) => play(port, '5.0', scenario))
  await Promise.all([...patient, playOneByOne(port)])
  for (const { place, peer } of idlers) {
    await isKeptAliveByPings(place, peer)
    report(place.version, 'keepAlive')
  }
}

async function playOneByOne(port) {
  for (const version of Object.keys(VERSIONS)) {
    for (const scenario of SCENARIOS) await play(port, version, scenario)
  }
  for (const scenario of features.SCENARIOS) await playOrSkip(port, scenario)
}

async function play(port, version, scenario) {
  await scenario(new Place(port, version, scenario.name))
  report(version, scenario.name)
}

async function playOrSkip(port, scenario) {
  const why = ON_MOSQUITTO && features.NOT_ON_MOSQUITTO.get(scenario)
  if (why) console.log(`skipped 5.0 ${words(scenario.name)}: ${why}`)
  else await play(port, '5.0', scenario)
}

function report(version, scenario) {
  console.log(`ok ${version} ${words(scenario)}`)
}

function words(name) {
  return name.replace(/[A-Z]|\d+/g, (start) => ` ${start.toLowerCase()}`)
}

async function connect(place) {
  const peer = await place.peer('a')
  expectSessionPresent(place, peer, false)
  await peer.leave()
  if (place.version !== '3.1') await connectNameless(place)
}

async function connectNameless(place) {
  const nameless = await place.peer('', { clientId: '' })
  if (place.version === '5.0') assert.ok(nameless.connack.properties.assignedClientIdentifier)
  await nameless.leave()
}

async function qos0BothWays(place) {
  await messagesArriveInOrder(place, 0)
}

async function qos1BothWays(place) {
  await messagesArriveInOrder(place, 1)
}

async function qos2BothWays(place) {
  await messagesArriveInOrder(place, 2)
}

async function messagesArriveInOrder(place, qos) {
  const [alice, bob] = [await place.peer('alice'), await place.peer('bob')]
  await alice.subscribe(place.topic('to-alice'), qos)
  await bob.subscribe(place.topic('to-bob'), qos)
  await sendsInOrder(alice, bob, place.topic('to-bob'), qos)
  await sendsInOrder(bob, alice, place.topic('to-alice'), qos)
  await alice.leave()
  await bob.leave()
}

async function sendsInOrder(sender, receiver, topic, qos) {
  const counted = Array.from({ length: 20 }, (_, n) => String(n).padStart(10, '0'))
  const payloads = ['', LARGE, ...counted, LARGE, '', 'the last']
  await Promise.all(payloads.map((payload) => sender.publish(topic, payload, { qos })))
  for (const payload of payloads) await receiver.receives(topic, payload, { qos })
}

async function retained(place) {
  const topic = place.topic('t')
  const [alice, watcher] = [await place.peer('alice'), await place.peer('watcher')]
  await watcher.subscribe(topic)
  for (const payload of ['first', 'second']) {
    await alice.publish(topic, payload, { retain: true })
    await watcher.receives(topic, payload, { retain: false })
    await aLateSubscriberReceives(place, payload)
  }
  await alice.publish(topic, '', { retain: true })
  await watcher.receives(topic, '', { retain: false })
  await nothingIsRetained(place, alice)
  await watcher.receives(topic, 'live')
  await alice.leave()
  await watcher.leave()
}

async function aLateSubscriberReceives(place, payload) {
  const late = await place.peer('late')
  await late.subscribe(place.topic('#'))
  await late.receives(place.topic('t'), payload, { retain: true })
  await late.leave()
}

async function nothingIsRetained(place, publisher) {
  const late = await place.peer('late')
  await late.subscribe(place.topic('#'))
  await publisher.publish(place.topic('t'), 'live')
  await late.receives(place.topic('t'), 'live')
  await late.leave()
}

async function will(place) {
  const will = (name, payload) => ({ will: { topic: place.topic(name), payload, qos: 1 } })
  const watcher = await place.peer('watcher')
  await watcher.subscribe(place.topic('+'))
  const polite = await place.peer('polite', will('polite', 'unsaid'))
  await polite.leave()
  const abrupt = await place.peer('abrupt', will('abrupt', 'said'))
  await abrupt.vanish()
  await watcher.receives(place.topic('abrupt'), 'said')
  await watcher.leave()
}

async function resume(place) {
  const alice = await place.peer('alice')
  const before = await place.peer('bob', { persistent: true })
  expectSessionPresent(place, before, false)
  await before.subscribe(place.topic('+'))
  await before.leave()
  for (let n = 0; n < 10; n++) {
    await alice.publish(place.topic('1'), String(n), { qos: 1 })
    await alice.publish(place.topic('2'), String(n), { qos: 2 })
  }
  const after = await place.peer('bob', { persistent: true })
  expectSessionPresent(place, after, true)
  await receivesWhatWasMissed(place, after)
  await after.leave()
  await alice.leave()
  await forgets(place)
}

async function receivesWhatWasMissed(place, peer) {
  const received = { [place.topic('1')]: [], [place.topic('2')]: [] }
  for (let n = 0; n < 20; n++) {
    const { topic, payload, qos } = await peer.messages.take('missed message')
    assert.equal(topic, place.topic(qos))
    received[topic].push(payload)
  }
  const inOrder = Array.from({ length: 10 }, (_, n) => String(n))
  for (const payloads of Object.values(received)) assert.deepEqual(payloads, inOrder)
}

/** A clean start ends the session, subscriptions and all. */
async function forgets(place) {
  const clean = await place.peer('bob')
  expectSessionPresent(place, clean, false)
  await clean.publish(place.topic('1'), 'to nobody')
  await clean.leave()
  const persistent = await place.peer('bob', { persistent: true })
  expectSessionPresent(place, persistent, false)
  await persistent.leave()
  const last = await place.peer('bob')
  await last.leave()
}

function expectSessionPresent(place, peer, present) {
  // MQTT 3.1 has no such flag.
  assert.equal(peer.sessionPresent, present && place.version !== '3.1')
}

async function wildcards(place) {
  const [alice, bob] = [await place.peer('alice'), await place.peer('bob')]
  await bob.subscribe(place.topic('one/+/end'))
  await bob.subscribe(place.topic('many/#'))
  const matching = ['one/a/end', 'one//end', 'many', 'many/a', 'many/a/b']
  for (const name of ['one/end', 'one/a/b/end', 'one/a', 'manya', ...matching]) {
    await alice.publish(place.topic(name), name)
  }
  for (const name of matching) await bob.receives(place.topic(name), name)
  await alice.leave()
  await bob.leave()
}

async function unsubscribe(place) {
  const [alice, bob] = [await place.peer('alice'), await place.peer('bob')]
  await bob.subscribe(place.topic('left'))
  await bob.subscribe(place.topic('kept'))
  await alice.publish(place.topic('left'), '1')
  await bob.receives(place.topic('left'), '1')
  await bob.unsubscribe(place.topic('left'))
  await alice.publish(place.topic('left'), '2')
  await alice.publish(place.topic('kept'), '3')
  await bob.receives(place.topic('kept'), '3')
  await alice.leave()
  await bob.leave()
}

async function takeover(place) {
  const first = await place.peer('same')
  await first.subscribe(place.topic('first'))
  const second = await place.peer('same')
  await first.hasEnded()
  // Debian's mosquitto closes the older connection without a DISCONNECT. [MQTT-3.1.4-3]
  const reasons = place.version === '5.0' && !ON_MOSQUITTO ? [SESSION_TAKEN_OVER] : []
  assert.deepEqual(first.reasons, reasons)
  await second.subscribe(place.topic('second'))
  for (const name of ['first', 'second']) await second.publish(place.topic(name), 'mine')
  await second.receives(place.topic('second'), 'mine')
  await second.leave()
}

const SCENARIOS = [
  connect,
  qos0BothWays,
  qos1BothWays,
  qos2BothWays,
  retained,
  will,
  resume,
  wildcards,
  unsubscribe,
  takeover,
]

await main(Number(process.argv[2]))
