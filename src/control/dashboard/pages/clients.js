// Clients and sessions: found by the beginning of their Client Identifier, by user and by state.

import { part } from '../api.js';
import { badge, el, fill, head, link, name, optional, settled } from '../dom.js';
import { whole } from '../format.js';
import { sampler } from '../metrics.js';
import { Pages, table } from '../table.js';

export const clients = { path: 'clients', title: 'Clients', show };

export function stateOf({ connected, connection }) {
  if (!connected) return badge('plain', 'away');
  return connection.held_back ? badge('warn', 'held back') : badge('good', 'connected');
}

export function linkTo(clientId) {
  return link(`client/${part(clientId)}`, name(clientId));
}

const COLUMNS = [
  { title: 'Client Identifier', kind: 'grow', cell: ({ client_id: id }) => linkTo(id) },
  { title: 'User', cell: ({ user }) => optional(user) },
  { title: 'State', cell: stateOf },
  { title: 'MQTT', cell: ({ connection }) => connection?.version ?? '–' },
  { title: 'Address', cell: ({ peer }) => el('span', { class: 'mono' }, peer) },
  { title: 'Subscriptions', kind: 'number', cell: (it) => whole(it.subscriptions) },
  { title: 'In flight', kind: 'number', cell: (it) => whole(it.in_flight) },
  { title: 'Queued', kind: 'number', cell: (it) => whole(it.queued) },
];

function show(root) {
  const prefix = el('input', {
    id: 'prefix', type: 'search', placeholder: 'beginning of the Client Identifier',
    autocomplete: 'off', spellcheck: 'false',
  });
  const user = el('input', {
    id: 'user', type: 'search', placeholder: 'any', autocomplete: 'off', spellcheck: 'false',
  });
  const state = el('select', { id: 'state' },
    el('option', { value: '' }, 'all'),
    el('option', { value: 'true' }, 'connected'),
    el('option', { value: 'false' }, 'away'));
  const count = el('span', { class: 'dim' });
  const nothing = 'No client fits.';
  const pages = new Pages({
    path: 'clients', key: 'clients', show: (entries) => table(COLUMNS, entries, nothing),
  });
  const search = () => pages.begin({
    prefix: prefix.value === '' ? null : prefix.value,
    user: user.value === '' ? null : user.value,
    connected: state.value === '' ? null : state.value,
  });
  for (const field of [prefix, user]) field.addEventListener('input', settled(search));
  state.addEventListener('change', search);
  fill(root,
    head('Clients', count),
    el('div', { class: 'tools' },
      el('label', { class: 'wide', for: 'prefix' }, 'Search', prefix),
      el('label', { for: 'user' }, 'User', user),
      el('label', { for: 'state' }, 'State', state),
      el('button', { type: 'button', on: { click: search } }, 'Refresh')),
    pages.node);
  search();
  return sampler.read(() => {
    const connected = whole(sampler.now('ringmq_clients_connected'));
    fill(count, `${connected} connected, ${whole(sampler.now('ringmq_sessions'))} sessions`);
  });
}
