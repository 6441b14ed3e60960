// One client: its connection, its session and its subscriptions, and the end of them.

import { access, get, part, remove } from '../api.js';
import { confirmed } from '../dialog.js';
import { badge, button, card, el, fill, head, link, name, optional } from '../dom.js';
import { bytes, span, whole } from '../format.js';
import { Pages, table } from '../table.js';
import { stateOf } from './clients.js';

export const client = { path: 'client', under: 'clients', show };

const PAUSE = 2000;

export const SUBSCRIPTION_COLUMNS = [
  { title: 'Topic Filter', kind: 'grow', cell: ({ filter }) => name(filter) },
  { title: 'QoS', kind: 'number', cell: ({ qos }) => qos },
  { title: 'Options', cell: (it) => optionsOf(it) },
  { title: 'Identifier', kind: 'number', cell: (it) => it.subscription_id ?? '–' },
];

function optionsOf(subscription) {
  return [
    subscription.no_local && badge('plain', 'No Local'),
    subscription.retain_as_published && badge('plain', 'Retain As Published'),
    subscription.retain_handling > 0
      && badge('plain', `Retain Handling ${subscription.retain_handling}`),
  ].map((it) => [it, ' ']);
}

function show(root, clientId) {
  const path = `clients/${part(clientId)}`;
  const [facts, state, actions] = [el('div', { class: 'facts' }), el('span'), el('span')];
  const trouble = el('p', { class: 'trouble', role: 'alert' });
  const subscriptions = new Pages({
    path: `${path}/subscriptions`,
    key: 'subscriptions',
    show: (entries) => table(SUBSCRIPTION_COLUMNS, entries, 'It has no subscriptions.'),
    rows: 50,
  });
  let [timer, isLeft, shown] = [0, false, ''];

  async function load() {
    clearTimeout(timer);
    try {
      const found = await get(path);
      if (isLeft) return;
      // What is the same stays, with what is selected in it.
      if (JSON.stringify(found) !== shown) {
        fill(trouble);
        fill(state, stateOf(found));
        fill(facts, connectionOf(found), sessionOf(found));
        fill(actions, access.may_change && actionsOf(clientId, found, load));
      }
      shown = JSON.stringify(found);
    } catch (problem) {
      if (isLeft) return;
      fill(trouble, problem.message);
      shown = '';
      if (problem.status === 404) {
        fill(state, badge('plain', 'gone'));
        fill(actions);
      }
    }
    timer = setTimeout(load, PAUSE);
  }

  fill(root,
    el('p', { class: 'way' }, link('clients', 'Clients'), ' ›'),
    head(name(clientId), state, el('span', { class: 'gap' }), actions),
    trouble, facts,
    card('Subscriptions', subscriptions.node));
  load();
  subscriptions.begin();
  return () => {
    isLeft = true;
    clearTimeout(timer);
  };
}

function actionsOf(clientId, { connected }, load) {
  const kick = () => confirmed('Disconnect this client?',
    el('p', {}, name(clientId), ' is disconnected, and its Will is published. Its session stays,'
      + ' and the client may connect again.'),
    'Disconnect', () => remove(`clients/${part(clientId)}`)).then(load);
  const end = () => confirmed('End this session?',
    el('p', {}, 'The session of ', name(clientId), ' ends with its subscriptions and all'
      + ' messages that wait in it. If the client is connected, it is disconnected.'),
    'End the session', () => remove(`sessions/${part(clientId)}`)).then(load);
  return [
    button('Disconnect', kick, { id: 'kick', class: 'danger', disabled: !connected }), ' ',
    button('End session', end, { id: 'end', class: 'danger' }), ' ',
    link(`bans/client_id/${part(clientId)}`, 'Ban …'),
  ];
}

function connectionOf({ connection, user, peer }) {
  const rows = connection === null
    ? [['Last address', peer], ['User', optional(user, 'anonymous')]]
    : [
      ['Address', peer],
      ['User', optional(user, 'anonymous')],
      ['Listener', connection.listener],
      ['MQTT', connection.version],
      ['Keep Alive', connection.keep_alive === 0 ? 'none' : span(connection.keep_alive)],
      ['Read from', connection.held_back ? badge('warn', 'not now') : 'yes'],
    ];
  return card('Connection', list(rows));
}

function sessionOf(found) {
  const expiry = found.session_expiry;
  const ends = expiry === null ? 'never'
    : expiry === 0 ? 'with the connection' : `${span(expiry)} after the connection`;
  return card('Session', list([
    ['Ends', ends],
    ['Survives a restart', found.stored ? 'yes' : 'no'],
    ['Subscriptions', whole(found.subscriptions)],
    ['In flight to it', whole(found.in_flight)],
    ['Queued', `${whole(found.queued)} messages, ${bytes(found.queued_bytes)}`],
    ['Unreleased from it', whole(found.unreleased)],
    ['Publishers wait for it', found.holds_publishers ? badge('warn', 'yes') : 'no'],
  ]));
}

function list(rows) {
  return el('dl', {}, rows.map(([key, value]) => [el('dt', {}, key), el('dd', {}, value)]));
}
