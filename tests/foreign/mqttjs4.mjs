// MQTT.js 4, which is still widely installed, asks for Topic Aliases by its `properties` and fails
// when it gets one. Drives the broker at 127.0.0.1:PORT in MQTT 5.0.

import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createRequire } from 'node:module'

const require = createRequire(new URL('../../target/foreign/node/', import.meta.url))
const mqtt = require('mqtt4')

const TOPIC = 'a/topic/long/enough/for/an/alias'
const PATIENCE_MS = 10_000

async function client(port, clientId) {
  const options = { protocolVersion: 5, clientId, reconnectPeriod: 0 }
  const properties = { topicAliasMaximum: 10 }
  const client = mqtt.connect(`mqtt://127.0.0.1:${port}`, { ...options, properties })
  await once(client, 'connect')
  return client
}

/** Each message comes, although the client has asked for Topic Aliases. */
async function receivesEach(port) {
  const [bob, alice] = [await client(port, 'bob'), await client(port, 'alice')]
  const received = []
  bob.on('message', (topic, payload) => received.push(`${topic} ${payload}`))
  await new Promise((resolve) => bob.subscribe(TOPIC, { qos: 1 }, resolve))
  for (let n = 0; n < 20; n++) {
    const arrived = once(bob, 'message')
    alice.publish(TOPIC, String(n), { qos: n % 3 })
    await arrived
  }
  assert.deepEqual(received, Array.from({ length: 20 }, (_, n) => `${TOPIC} ${n}`))
  alice.end()
  bob.end()
}

setTimeout(() => process.exit(1), PATIENCE_MS).unref()
await receivesEach(Number(process.argv[2]))
console.log('ok MQTT.js 4 with Topic Aliases asked for')
