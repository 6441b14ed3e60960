// A client of MQTT.js as the scenarios speak to it: each call waits, with a limit, until the broker
// has answered.

import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'

const require = createRequire(new URL('../../target/foreign/node/', import.meta.url))
const mqtt = require('mqtt')

export const VERSIONS = {
  '3.1': { protocolId: 'MQIsdp', protocolVersion: 3 },
  '3.1.1': { protocolId: 'MQTT', protocolVersion: 4 },
  '5.0': { protocolId: 'MQTT', protocolVersion: 5 },
}
const ENV = process.env
const TLS = tls()
const PROTOCOL = (ENV.TRANSPORT === 'websockets' ? 'ws' : 'mqtt') + (TLS ? 's' : '')
const PATIENCE_MS = 10_000
const KEEP_ALIVE_S = 2
const WITH_WILL = 0x04
export const LARGE = 'x'.repeat(100 * 1024)

/** TLS as the environment asks for it: this version alone, and a certificate if it names one. */
function tls() {
  if (!ENV.TLS_VERSION) return undefined
  const version = `TLSv${ENV.TLS_VERSION}`
  const mine = ENV.TLS_CERT && { cert: readFileSync(ENV.TLS_CERT), key: readFileSync(ENV.TLS_KEY) }
  return { ca: readFileSync(ENV.TLS_CA), minVersion: version, maxVersion: version, ...mine }
}

/** Where a scenario happens: a broker, a version, and topics and names of its own. */
export class Place {
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

  async peer(role, options = {}) {
    const peer = new Peer(this, { clientId: this.clientId(role), ...options })
    peer.connack = await peer.answers.take('CONNACK')
    assert.equal(peer.connack.cmd, 'connack', String(peer.connack))
    return peer
  }

  /** The Reason Code that a client is refused with. */
  async refusal(role, options = {}) {
    const { code } = await new Peer(this, { clientId: this.clientId(role), ...options }).answers.take(
      'refusal',
    )
    return code
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

/** A client whose events land in one queue per kind. */
class Peer {
  messages = new Events()
  answers = new Events()
  pings = new Events()
  auths = new Events()
  closes = new Events()
  reasons = []
  /** The Reason Code of the last acknowledgement of a PUBLISH. */
  published = undefined

  constructor(place, { persistent = false, properties = {}, prepare = () => {}, ...options }) {
    const asked = { sessionExpiryInterval: persistent ? 3600 : 0, ...properties }
    this.client = mqtt.connect({
      protocol: PROTOCOL,
      host: '127.0.0.1',
      port: place.port,
      path: '/mqtt',
      ...TLS,
      wsOptions: TLS,
      ...VERSIONS[place.version],
      clean: !persistent,
      reconnectPeriod: 0,
      ...(place.version === '5.0' && { properties: asked }),
      ...options,
    })
    this.listen()
    prepare(this)
  }

  listen() {
    this.client.on('connect', (connack) => this.answers.put(connack))
    this.client.on('message', (topic, payload, { qos, retain, properties = {} }) =>
      this.messages.put({ topic, payload: payload.toString(), qos, retain, properties }),
    )
    this.client.on('packetreceive', (packet) => this.notice(packet))
    this.client.on('disconnect', ({ reasonCode }) => this.reasons.push(reasonCode))
    this.client.on('close', () => this.closes.put('close'))
    this.client.on('error', (error) => this.answers.put(error))
  }

  notice(packet) {
    if (packet.cmd === 'pingresp') this.pings.put(packet)
    if (packet.cmd === 'auth') this.auths.put(packet)
    if (['puback', 'pubrec'].includes(packet.cmd)) this.published = packet.reasonCode
  }

  get sessionPresent() {
    return this.connack.sessionPresent
  }

  /** Options in the words of 5.0: nl, rap, rh, and the Subscription Identifier. */
  async subscribe(filter, qos = 2, { identifier, ...options } = {}) {
    const properties = identifier && { subscriptionIdentifier: identifier }
    const asked = { qos, ...options, ...(properties && { properties }) }
    const granted = await withPatience(this.client.subscribeAsync(filter, asked), 'SUBACK')
    assert.deepEqual(granted.map((one) => one.qos), [qos])
  }

  /** Says the packet that answered, which 5.0 has Reason Codes in. */
  unsubscribe(filter) {
    return withPatience(this.client.unsubscribeAsync(filter), 'UNSUBACK')
  }

  async publish(topic, payload, { qos = 1, retain = false, properties } = {}) {
    const options = { qos, retain, properties }
    await withPatience(this.client.publishAsync(topic, payload, options), 'acknowledgement')
  }

  async receives(topic, payload, { qos = 1, retain = false } = {}) {
    const { properties, ...message } = await this.messages.take(`message to ${topic}`)
    assert.deepEqual(brief(message), brief({ topic, payload, qos, retain }))
    return properties
  }

  /** Ends with DISCONNECT. A message that nobody expected makes the scenario fail. */
  async leave({ withWill = false, properties } = {}) {
    const options = { ...(withWill && { reasonCode: WITH_WILL }), ...(properties && { properties }) }
    await withPatience(this.client.endAsync(false, options), 'end')
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
export async function idler(place) {
  const peer = await place.peer('idler', { keepalive: KEEP_ALIVE_S })
  await peer.subscribe(place.topic('t'))
  return { place, peer }
}

export async function isKeptAliveByPings(place, peer) {
  await peer.pings.take('PINGRESP')
  await peer.pings.take('second PINGRESP')
  await peer.publish(place.topic('t'), 'still here')
  await peer.receives(place.topic('t'), 'still here')
  await peer.leave()
}
