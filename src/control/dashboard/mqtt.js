// A client of MQTT 5.0 and 3.1.1 over WebSocket: what it takes to try a broker.

const [CONNECT, CONNACK, PUBLISH, PUBACK, PUBREC, PUBREL, PUBCOMP] = [1, 2, 3, 4, 5, 6, 7];
const [SUBSCRIBE, SUBACK, UNSUBSCRIBE, UNSUBACK, PINGREQ, DISCONNECT] = [8, 9, 10, 11, 12, 14];
const KEEP_ALIVE = 30;
const REASON_STRING = 0x1f;
const ASSIGNED_CLIENT_IDENTIFIER = 0x12;

// How long the values of properties are: a number of bytes, or what a function reads.
const PROPERTY_KINDS = new Map();
for (const [kind, ids] of [
  ['byte', [0x01, 0x17, 0x19, 0x24, 0x25, 0x28, 0x29, 0x2a]],
  ['two', [0x13, 0x21, 0x22, 0x23]],
  ['four', [0x02, 0x11, 0x18, 0x27]],
  ['integer', [0x0b]],
  ['text', [0x03, 0x08, 0x12, 0x15, 0x1a, 0x1c, 0x1f]],
  ['binary', [0x09, 0x16]],
  ['pair', [0x26]],
]) {
  for (const id of ids) PROPERTY_KINDS.set(id, kind);
}

// Bytes that are written one after another.
class Writer {
  constructor() {
    this.bytes = [];
  }

  byte(value) {
    this.bytes.push(value & 0xff);
    return this;
  }

  two(value) {
    return this.byte(value >> 8).byte(value);
  }

  integer(value) {
    let rest = value;
    do {
      const digit = rest % 128;
      rest = Math.floor(rest / 128);
      this.byte(rest > 0 ? digit | 128 : digit);
    } while (rest > 0);
    return this;
  }

  raw(bytes) {
    for (const byte of bytes) this.bytes.push(byte);
    return this;
  }

  binary(bytes) {
    return this.two(bytes.length).raw(bytes);
  }

  text(text) {
    const bytes = new TextEncoder().encode(text);
    if (bytes.length > 0xffff) throw new Error('A text is longer than 65,535 bytes.');
    return this.binary(bytes);
  }
}

// Bytes that are read one after another.
class Reader {
  constructor(bytes) {
    Object.assign(this, { bytes, at: 0 });
  }

  left() {
    return this.bytes.length - this.at;
  }

  take(count) {
    if (this.left() < count) throw new Error('A packet of the broker is too short.');
    this.at += count;
    return this.bytes.subarray(this.at - count, this.at);
  }

  byte() {
    return this.take(1)[0];
  }

  two() {
    return (this.byte() << 8) | this.byte();
  }

  four() {
    return this.two() * 65536 + this.two();
  }

  integer() {
    let [value, factor, byte] = [0, 1, 128];
    while (byte & 128) {
      byte = this.byte();
      value += (byte & 127) * factor;
      factor *= 128;
    }
    return value;
  }

  binary() {
    return this.take(this.two());
  }

  text() {
    return new TextDecoder().decode(this.binary());
  }

  pair() {
    return [this.text(), this.text()];
  }

  // The properties by their identifiers; of those that repeat, the last one.
  properties() {
    const end = this.integer() + this.at;
    const found = new Map();
    while (this.at < end) {
      const id = this.byte();
      const kind = PROPERTY_KINDS.get(id);
      if (!kind) throw new Error('A property of the broker is unknown.');
      found.set(id, this[kind]());
    }
    return found;
  }
}

// Tells `hears` what happens: `state(word, reason)`, `message({topic, payload, qos, retain})`,
// `granted(filter, code)`, `removed(filter)`.
export class MqttClient {
  constructor(hears) {
    this.hears = hears;
    this.socket = null;
    this.timer = 0;
  }

  connect(url, { clientId, user, password, version }) {
    this.version = version;
    this.buffer = new Uint8Array(0);
    this.packetId = 0;
    // Topic Filters that wait for an answer, and messages at QoS 2 that are not released.
    [this.waiting, this.unreleased] = [new Map(), new Set()];
    this.reason = '';
    const socket = new WebSocket(url, 'mqtt');
    socket.binaryType = 'arraybuffer';
    this.socket = socket;
    this.hears.state('connecting', '');
    const isMine = () => this.socket === socket;
    socket.addEventListener('open', () => isMine() && this.sendConnect(clientId, user, password));
    socket.addEventListener('message', ({ data }) => isMine() && this.receive(data));
    socket.addEventListener('close', () => isMine() && this.ended());
  }

  get isFive() {
    return this.version === 5;
  }

  sendConnect(clientId, user, password) {
    const flags = 2 | (user === '' ? 0 : 0x80) | (password === '' ? 0 : 0x40);
    const body = new Writer().text('MQTT').byte(this.version).byte(flags).two(KEEP_ALIVE);
    this.noProperties(body).text(clientId);
    if (user !== '') body.text(user);
    if (password !== '') body.text(password);
    this.send(CONNECT << 4, body);
  }

  noProperties(body) {
    return this.isFive ? body.byte(0) : body;
  }

  send(head, body = new Writer()) {
    const packet = new Writer().byte(head).integer(body.bytes.length).raw(body.bytes);
    this.socket.send(new Uint8Array(packet.bytes));
  }

  subscribe(filter, qos) {
    const body = this.noProperties(new Writer().two(this.nextId(filter))).text(filter).byte(qos);
    this.send((SUBSCRIBE << 4) | 2, body);
  }

  unsubscribe(filter) {
    const body = this.noProperties(new Writer().two(this.nextId(filter))).text(filter);
    this.send((UNSUBSCRIBE << 4) | 2, body);
  }

  publish(topic, payload, qos, retain) {
    const body = new Writer().text(topic);
    if (qos > 0) body.two(this.nextId(null));
    this.noProperties(body).raw(new TextEncoder().encode(payload));
    this.send((PUBLISH << 4) | (qos << 1) | (retain ? 1 : 0), body);
  }

  nextId(waits) {
    this.packetId = (this.packetId % 0xffff) + 1;
    this.waiting.set(this.packetId, waits);
    return this.packetId;
  }

  end() {
    if (this.socket === null) return;
    if (this.socket.readyState === WebSocket.OPEN) this.send(DISCONNECT << 4);
    this.socket.close();
    this.ended();
  }

  ended() {
    clearInterval(this.timer);
    this.socket = null;
    this.hears.state('closed', this.reason);
  }

  // The packets that are whole; the rest waits.
  receive(data) {
    const bytes = new Uint8Array(this.buffer.length + data.byteLength);
    bytes.set(this.buffer);
    bytes.set(new Uint8Array(data), this.buffer.length);
    let begin = 0;
    try {
      for (;;) {
        const reader = new Reader(bytes.subarray(begin));
        const packet = whole(reader);
        if (packet === null) break;
        begin += reader.at;
        this.handle(packet.type, packet.flags, new Reader(packet.body));
      }
    } catch (error) {
      this.reason = error.message;
      this.socket?.close();
    }
    this.buffer = bytes.slice(begin);
  }

  handle(type, flags, reader) {
    if (type === CONNACK) this.handleConnack(reader);
    else if (type === PUBLISH) this.handlePublish(flags, reader);
    else if (type === SUBACK) this.handleSuback(reader);
    else if (type === UNSUBACK) this.hears.removed(this.answered(reader.two()));
    else if (type === PUBACK || type === PUBCOMP) this.noteAcknowledged(reader);
    else if (type === PUBREC) this.handlePubrec(reader);
    else if (type === PUBREL) this.handlePubrel(reader.two());
    else if (type === DISCONNECT) this.reason = this.reasonOf(reader, 'Disconnected');
  }

  handleConnack(reader) {
    reader.byte();
    const code = reader.byte();
    const properties = this.isFive ? reader.properties() : new Map();
    if (code !== 0) {
      this.reason = words('Refused', code, properties.get(REASON_STRING));
      return;
    }
    const given = properties.get(ASSIGNED_CLIENT_IDENTIFIER);
    this.timer = setInterval(() => this.send(PINGREQ << 4), KEEP_ALIVE * 900);
    this.hears.state('connected', given ? `as ${given}` : '');
  }

  handlePublish(flags, reader) {
    const qos = (flags >> 1) & 3;
    const topic = reader.text();
    const id = qos > 0 ? reader.two() : 0;
    if (this.isFive) reader.properties();
    const payload = reader.take(reader.left());
    const isNew = qos < 2 || !this.unreleased.has(id);
    if (isNew) this.hears.message({ topic, payload, qos, retain: (flags & 1) === 1 });
    if (qos === 1) this.send(PUBACK << 4, new Writer().two(id));
    if (qos === 2) {
      this.unreleased.add(id);
      this.send(PUBREC << 4, new Writer().two(id));
    }
  }

  handlePubrel(id) {
    this.unreleased.delete(id);
    this.send(PUBCOMP << 4, new Writer().two(id));
  }

  handlePubrec(reader) {
    const id = reader.two();
    const code = reader.left() > 0 ? reader.byte() : 0;
    if (code < 128) this.send((PUBREL << 4) | 2, new Writer().two(id));
    else this.hears.state('connected', words('The message was refused', code, ''));
  }

  noteAcknowledged(reader) {
    this.waiting.delete(reader.two());
    const code = reader.left() > 0 ? reader.byte() : 0;
    if (code >= 128) this.hears.state('connected', words('The message was refused', code, ''));
  }

  handleSuback(reader) {
    const filter = this.answered(reader.two());
    if (this.isFive) reader.properties();
    this.hears.granted(filter, reader.byte());
  }

  answered(id) {
    const filter = this.waiting.get(id);
    this.waiting.delete(id);
    return filter;
  }

  reasonOf(reader, start) {
    const code = reader.left() > 0 ? reader.byte() : 0;
    const properties = reader.left() > 0 ? reader.properties() : new Map();
    return words(start, code, properties.get(REASON_STRING));
  }
}

function words(start, code, reason) {
  const number = `0x${code.toString(16).toUpperCase().padStart(2, '0')}`;
  return `${start} with the code ${number}${reason ? `: ${reason}` : ''}`;
}

// The next packet; null if it has not come as a whole.
function whole(reader) {
  const start = reader.at;
  const lengthEnds = reader.bytes.findIndex((byte, at) => at > start && byte < 128);
  if (lengthEnds < 0) return null;
  const head = reader.byte();
  const length = reader.integer();
  if (reader.left() < length) return null;
  return { type: head >> 4, flags: head & 15, body: reader.take(length) };
}
