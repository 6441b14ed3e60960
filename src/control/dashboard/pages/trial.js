// A client to try things with: connects over WebSocket, subscribes, publishes and shows messages.

import { get } from '../api.js';
import { badge, button, card, el, fill, head, name } from '../dom.js';
import { clock } from '../format.js';
import { MqttClient } from '../mqtt.js';

export const trial = { path: 'trial', title: 'MQTT client', show };

const SHOWN_MAX = 300;
const TEXT_MAX = 4096;

function input(id, properties = {}) {
  return el('input', { id, size: 14, autocomplete: 'off', spellcheck: 'false', ...properties });
}

function select(id, options) {
  return el('select', { id }, options.map(([value, words]) => el('option', { value }, words)));
}

function field(title, control, kind = '') {
  return el('label', { class: kind, for: control.id }, title, control);
}

function show(root) {
  const url = input('url', { placeholder: 'the address of a listener for WebSocket' });
  const clientId = input('client-id');
  clientId.value = `dashboard-${Math.random().toString(36).slice(2, 8)}`;
  const [user, password] = [input('mqtt-user'), input('mqtt-password', { type: 'password' })];
  const version = select('version', [['5', '5.0'], ['4', '3.1.1']]);
  const [state, reason] = [el('span', { id: 'state' }), el('span', { class: 'dim' })];
  const messages = el('tbody', { id: 'messages' });
  const filters = el('ul', { class: 'filters' });
  const hint = el('p', { class: 'trouble' });
  let [waiting, frame] = [[], 0];
  const client = new MqttClient({ state: told, message, granted, removed });
  const working = el('fieldset', { disabled: true });
  const connect = el('button', { class: 'main', id: 'connect' }, 'Connect');

  function told(word, why) {
    const isOpen = word !== 'closed';
    fill(state, badge({ connected: 'good', connecting: 'warn' }[word] ?? 'plain', word));
    fill(reason, why);
    fill(connect, isOpen ? 'Disconnect' : 'Connect');
    working.disabled = word !== 'connected';
    if (!isOpen) fill(filters);
  }

  // The latest ones, at most once for each picture of the screen.
  function message(it) {
    waiting.push({ ...it, at: Date.now() });
    if (waiting.length > SHOWN_MAX) waiting.shift();
    if (frame === 0) frame = requestAnimationFrame(draw);
  }

  function draw() {
    frame = 0;
    messages.prepend(...waiting.map(row).reverse());
    waiting = [];
    while (messages.childElementCount > SHOWN_MAX) messages.lastChild.remove();
  }

  function granted(filter, code) {
    if (code >= 128) {
      fill(reason, 'The subscription was refused: ', name(filter));
      return;
    }
    removed(filter);
    const level = badge('plain', `QoS ${code}`);
    filters.append(el('li', { 'data-filter': filter }, name(filter), ' ', level,
      button('×', () => client.unsubscribe(filter), { 'aria-label': `Unsubscribe ${filter}` })));
  }

  function removed(filter) {
    [...filters.children].find((it) => it.dataset.filter === filter)?.remove();
  }

  function toggle(event) {
    event.preventDefault();
    if (client.socket !== null) {
      client.end();
      return;
    }
    const options = {
      clientId: clientId.value, user: user.value, password: password.value,
      version: Number(version.value),
    };
    try {
      client.connect(url.value, options);
    } catch (error) {
      told('closed', error.message);
    }
  }

  fill(working, subscribing(client), publishing(client, reason));
  fill(root,
    head('MQTT client', state, reason),
    hint,
    card(null, el('form', { on: { submit: toggle } }, el('div', { class: 'tools' },
      field('WebSocket', url, 'wide'), field('Client Identifier', clientId),
      field('User', user), field('Password', password), field('MQTT', version), connect))),
    working, filters,
    el('div', { class: 'scroll' }, el('table', {},
      el('thead', {}, el('tr', {}, ['Time', 'Topic', '', 'Payload'].map(
        (title) => el('th', { scope: 'col' }, title)))),
      messages)));
  told('closed', '');
  addresses().then((found) => {
    if (found.length > 0) [url.value] = found;
    else fill(hint, 'The broker has no listener for WebSocket: ', el('code', {},
      '--listen-websocket 127.0.0.1:8083'), ' makes one.');
  }, () => {});
  return () => {
    client.end();
    cancelAnimationFrame(frame);
  };
}

function row({ at, topic, payload, qos, retain }) {
  return el('tr', {},
    el('td', { class: 'mono' }, clock(at)),
    el('td', {}, name(topic)),
    el('td', {}, badge('plain', `QoS ${qos}`), ' ', retain && badge('warn', 'retained')),
    el('td', { class: 'grow' }, name(textOf(payload))));
}

function subscribing(client) {
  const [filter, qos] = [input('filter', { placeholder: 'room/#', required: true }), qosOf('sub')];
  const subscribe = (event) => {
    event.preventDefault();
    client.subscribe(filter.value, Number(qos.value));
  };
  return card('Subscribe', el('form', { on: { submit: subscribe } }, el('div', { class: 'tools' },
    field('Topic Filter', filter, 'wide'), field('QoS', qos),
    el('button', { id: 'subscribe' }, 'Subscribe'))));
}

function publishing(client, reason) {
  const topic = input('topic', { placeholder: 'room/temperature', required: true });
  const [payload, qos] = [el('textarea', { id: 'payload', rows: 1 }), qosOf('pub')];
  const retain = el('input', { id: 'retain', type: 'checkbox' });
  const publish = (event) => {
    event.preventDefault();
    try {
      client.publish(topic.value, payload.value, Number(qos.value), retain.checked);
    } catch (error) {
      fill(reason, error.message);
    }
  };
  return card('Publish', el('form', { on: { submit: publish } }, el('div', { class: 'tools' },
    field('Topic Name', topic, 'wide'), field('Payload', payload, 'wide'), field('QoS', qos),
    field('Retain', retain), el('button', { id: 'publish' }, 'Publish'))));
}

function qosOf(of) {
  return select(`${of}-qos`, ['0', '1', '2'].map((it) => [it, it]));
}

// The listeners for WebSocket, as this browser reaches them.
async function addresses() {
  const { listeners } = await get('listeners');
  const found = listeners.filter(({ protocol }) => protocol.startsWith('websocket'));
  return found.map(({ address, protocol, path }) => {
    const end = address.lastIndexOf(':');
    const [host, port] = [address.slice(0, end), address.slice(end + 1)];
    const isAny = host === '0.0.0.0' || host === '[::]';
    const scheme = protocol === 'websocket' ? 'ws' : 'wss';
    return `${scheme}://${isAny ? location.hostname : host}:${port}${path ?? '/mqtt'}`;
  });
}

function textOf(payload) {
  try {
    const text = new TextDecoder('utf-8', { fatal: true }).decode(payload.subarray(0, TEXT_MAX));
    return payload.length > TEXT_MAX ? `${text} …` : text;
  } catch {
    return [...payload.subarray(0, 64)].map((it) => it.toString(16).padStart(2, '0')).join(' ');
  }
}
