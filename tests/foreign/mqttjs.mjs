// Drives the broker at 127.0.0.1:PORT with MQTT.js, in MQTT 3.1, 3.1.1 and 5.0.
//
// usage: mqttjs.mjs PORT
//
// Prints one line per scenario that holds; the first that does not ends the run with its error.

import assert from 'node:assert/strict'
import { createRequire } from 'node:module'

const require = createRequire(new URL('../../target/foreign/node/', import.meta.url))
const mqtt = require('mqtt')

const VERSIONS = {
  '3.1': { protocolId: 'MQIsdp', protocolVersion: 3 },
  '3.1.1': { protocolId: 'MQTT', protocolVersion: 4 },
  '5.0': { protocolId: 'MQTT', protocolVersion: 5 },
}
const PATIENCE_MS = 10_000
const KEEP_ALIVE_S = 2
const SESSION_TAKEN_OVER = 0x8e
// Debian's mosquitto closes the older connection of a client without a DISCONNECT.
const TAKEOVER_HAS_A_REASON = process.env.BROKER !== 'mosquitto'
const LARGE = 'x'.repeat(100 * 1024)

async function main(port) {
  const idlers = []
  for (const version of Object.keys(VERSIONS)) {
    idlers.push(await idler(new Place(port, version, 'idle')))
  }
  for (const version of Object.keys(VERSIONS)) {
    for (const scenario of SCENARIOS) {
      await scenario(new Place(port, version, scenario.name))
      report(version, scenario.name)
    }
  }
  for (const { place, peer } of idlers) {
    await isKeptAliveByPings(place, peer)
    report(place.version, 'keepAlive')
  }
}

function report(version, scenario) {
  const words = scenario.replace(/[A-Z]|\d/g, (start) => ` ${start.toLowerCase()}`)
  console.log(`ok ${version} ${words}`)
}

/** Where a scenario happens: a broker, a version, and topics and names of its own. */
class Place {
  constructor(port, version, scenario) {
    Object.assign(this, { port, version, short: `${version}-${scenario}` })
  }

  topic(rest) {
    return `mqttjs/${this.short}/${rest}`
  }

  clientId(role) {
    // MQTT 3.1 allows no more than 23 characters.
    return `${this.short}-${role}`.slice(-23)
  }

  peer(role, options = {}) {
    return Peer.connected(this, { clientId: this.clientId(role), ...options })
  }
}

/** Events that may come before or after somebody asks for them. */
class Events {
  arrived = []
  asked = []

  put(event) {
    const ask = this.asked.shift()
    if (ask) ask(event)
    else this.arrived.push(event)
  }

  take(what) {
    if (this.arrived.length > 0) return Promise.resolve(this.arrived.shift())
    return withPatience(new Promise((resolve) => this.asked.push(resolve)), what)
  }
}

function withPatience(promise, what) {
  let timer
  const timeout = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`no ${what} within ${PATIENCE_MS} ms`)), PATIENCE_MS)
  })
  return Promise.race([promise, timeout]).finally(() => clearTimeout(timer))
}

/** A connected client whose events land in one queue per kind. */
class Peer {
  messages = new Events()
  connacks = new Events()
  pings = new Events()
  closes = new Events()
  reasons = []

  static async connected(place, options) {
    const peer = new Peer(place, options)
    peer.connack = await peer.connacks.take('CONNACK')
    return peer
  }

  constructor(place, { persistent = false, ...options }) {
    const properties = place.version === '5.0' && { sessionExpiryInterval: persistent ? 3600 : 0 }
    this.client = mqtt.connect({
      host: '127.0.0.1',
      port: place.port,
      ...VERSIONS[place.version],
      clean: !persistent,
      reconnectPeriod: 0,
      ...(properties && { properties }),
      ...options,
    })
    this.listen()
  }

  listen() {
    this.client.on('connect', (connack) => this.connacks.put(connack))
    this.client.on('message', (topic, payload, { qos, retain }) =>
      this.messages.put({ topic, payload: payload.toString(), qos, retain }),
    )
    this.client.on('packetreceive', ({ cmd }) => cmd === 'pingresp' && this.pings.put(cmd))
    this.client.on('disconnect', ({ reasonCode }) => this.reasons.push(reasonCode))
    this.client.on('close', () => this.closes.put('close'))
    this.client.on('error', (error) => this.connacks.put(error))
  }

  get sessionPresent() {
    return this.connack.sessionPresent
  }

  async subscribe(filter, qos = 2) {
    const granted = await withPatience(this.client.subscribeAsync(filter, { qos }), 'SUBACK')
    assert.deepEqual(granted.map((one) => one.qos), [qos])
  }

  async unsubscribe(filter) {
    await withPatience(this.client.unsubscribeAsync(filter), 'UNSUBACK')
  }

  async publish(topic, payload, { qos = 1, retain = false } = {}) {
    await withPatience(this.client.publishAsync(topic, payload, { qos, retain }), 'acknowledgement')
  }

  async receives(topic, payload, { qos = 1, retain = false } = {}) {
    const message = await this.messages.take(`message to ${topic}`)
    assert.deepEqual(brief(message), brief({ topic, payload, qos, retain }))
  }

  /** Ends with DISCONNECT. A message that nobody expected makes the scenario fail. */
  async leave() {
    await withPatience(this.client.endAsync(), 'end')
    assert.deepEqual(this.messages.arrived, [])
  }

  async hasEnded() {
    await this.closes.take('close')
    await this.leave()
  }

  /** Ends the connection without DISCONNECT. */
  async vanish() {
    this.client.stream.destroy()
    await this.hasEnded()
  }
}

/** Keeps a hundred kilobytes out of an error's text, and their length in it. */
function brief({ payload, ...rest }) {
  const text = payload.length > 100 ? `${payload.slice(0, 20)}... (${payload.length})` : payload
  return { ...rest, payload: text, large: payload === LARGE }
}

/** A client that says nothing but PINGREQ while the other scenarios run. */
async function idler(place) {
  const peer = await place.peer('idler', { keepalive: KEEP_ALIVE_S })
  await peer.subscribe(place.topic('t'))
  return { place, peer }
}

async function isKeptAliveByPings(place, peer) {
  await peer.pings.take('PINGRESP')
  await peer.pings.take('second PINGRESP')
  await peer.publish(place.topic('t'), 'still here')
  await peer.receives(place.topic('t'), 'still here')
  await peer.leave()
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
  // [MQTT-3.1.4-3]
  const reasons = place.version === '5.0' && TAKEOVER_HAS_A_REASON ? [SESSION_TAKEN_OVER] : []
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
