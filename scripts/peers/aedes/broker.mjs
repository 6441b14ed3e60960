// The broker aedes for scripts/compare.sh: TCP on loopback, all in memory, no log.
//
//     node broker.mjs PORT
import { createServer } from 'node:net'
import { Aedes } from 'aedes'

const broker = await Aedes.createBroker({
  concurrency: 1000,
  queueLimit: 100000,
  maxInflightInbound: 0,
  heartbeatInterval: 3600000
})
createServer({ noDelay: true, backlog: 4096 }, broker.handle)
  .listen(Number(process.argv[2]), '127.0.0.1')
