// Where the broker listens, and until when its certificates are good.

import { get } from '../api.js';
import { badge, card, el, fill, head } from '../dom.js';
import { date } from '../format.js';
import { table } from '../table.js';

export const listeners = { path: 'listeners', title: 'Listeners', show };

const PROTOCOLS = {
  tcp: 'MQTT',
  tls: 'MQTT over TLS',
  websocket: 'MQTT over WebSocket',
  'websocket-tls': 'MQTT over WebSocket over TLS',
};
const DAY = 86400e3;

const COLUMNS = [
  { title: 'Address', kind: 'grow', cell: (it) => el('span', { class: 'mono' }, it.address) },
  { title: 'Protocol', cell: ({ protocol }) => PROTOCOLS[protocol] ?? protocol },
  { title: 'Path', cell: (it) => (it.protocol.startsWith('web') ? it.path ?? 'any' : '–') },
  { title: 'Behind a proxy', cell: ({ proxied }) => (proxied ? 'yes' : 'no') },
  { title: 'Certificates', cell: ({ certificates }) => certificates.map(expiryOf) },
];

function show(root) {
  load(root);
}

async function load(root) {
  const [list, settings] = [el('div'), el('div')];
  fill(root, head('Listeners'), list, settings);
  try {
    const [found, config] = await Promise.all([get('listeners'), get('config')]);
    fill(list, card(null, table(COLUMNS, found.listeners)));
    fill(settings, card('Settings', settingsOf(config.settings)));
  } catch (problem) {
    fill(list, el('p', { class: 'trouble', role: 'alert' }, problem.message));
  }
}

function expiryOf({ expires }) {
  if (expires === null) return badge('plain', 'end unknown');
  const days = Math.floor((expires - Date.now()) / DAY);
  const kind = days < 0 ? 'bad' : days < 14 ? 'warn' : 'good';
  const words = days < 0 ? 'expired' : `until ${date(expires).split(' ')[0]}, ${days} days`;
  return el('div', {}, badge(kind, words));
}

// What was given. The rest is as the broker comes.
function settingsOf(settings) {
  return table([
    { title: 'Setting', cell: ({ key }) => el('span', { class: 'mono' }, key) },
    {
      title: 'Value', kind: 'grow',
      cell: ({ values }) => el('span', { class: 'name' }, values.join(', ')),
    },
    { title: 'From', cell: ({ source }) => source },
  ], settings.filter(({ source }) => source !== 'default'), 'All are as they come.');
}
