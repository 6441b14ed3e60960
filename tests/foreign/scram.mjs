// The client's side of SCRAM (RFC 5802, RFC 7677) with what node has of cryptography.

import assert from 'node:assert/strict'
import { createHash, createHmac, pbkdf2Sync, randomBytes } from 'node:crypto'

const DIGESTS = {
  'SCRAM-SHA-256': { name: 'sha256', bytes: 32 },
  'SCRAM-SHA-512': { name: 'sha512', bytes: 64 },
}
const WITHOUT_CHANNEL_BINDING = 'n,,'

/** One exchange: what the client says first and last, and whether the server knew the password. */
export function scram(method, user, password) {
  const digest = DIGESTS[method]
  const bare = `n=${user},r=${randomBytes(18).toString('base64')}`
  let serverSignature
  return {
    method,
    first: Buffer.from(WITHOUT_CHANNEL_BINDING + bare),

    final(challenge) {
      const { r, s, i } = attributes(challenge)
      const salt = Buffer.from(s, 'base64')
      const salted = pbkdf2Sync(password, salt, Number(i), digest.bytes, digest.name)
      const binding = Buffer.from(WITHOUT_CHANNEL_BINDING).toString('base64')
      const withoutProof = `c=${binding},r=${r}`
      const said = `${bare},${challenge},${withoutProof}`
      const clientKey = hmac(digest, salted, 'Client Key')
      const storedKey = createHash(digest.name).update(clientKey).digest()
      const signature = hmac(digest, storedKey, said)
      const proof = clientKey.map((byte, index) => byte ^ signature[index])
      serverSignature = hmac(digest, hmac(digest, salted, 'Server Key'), said)
      return Buffer.from(`${withoutProof},p=${Buffer.from(proof).toString('base64')}`)
    },

    verify(answer) {
      assert.equal(answer.toString(), `v=${serverSignature.toString('base64')}`)
    },
  }
}

function attributes(message) {
  const parts = message.toString().split(',')
  return Object.fromEntries(parts.map((part) => [part[0], part.slice(2)]))
}

function hmac({ name }, key, text) {
  return createHmac(name, key).update(text).digest()
}
