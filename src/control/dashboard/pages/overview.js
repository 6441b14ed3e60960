// What the broker does, at one look.

import { get } from '../api.js';
import { chart } from '../chart.js';
import { badge, card, el, fill, head, link } from '../dom.js';
import { byteRate, bytes, byteUnit, percent, rate, short, whole } from '../format.js';
import { family, sampler, sumOf } from '../metrics.js';
import { table } from '../table.js';

export const overview = { path: '', title: 'Overview', show };

const DROPPED = 'ringmq_messages_dropped_total';
const RECEIVED = 'ringmq_publish_received_total';
const SENT = 'ringmq_publish_sent_total';
const BYTES = ['ringmq_received_bytes_total', 'ringmq_sent_bytes_total'];

function show(root) {
  const tiles = TILES.map(tile);
  const charts = [
    [chart('Messages', ['in', 'out'], rate), () => [RECEIVED, SENT].map((it) => rates(it))],
    [chart('Traffic', ['in', 'out'], byteRate, byteUnit), () => BYTES.map((it) => rates(it))],
    [chart('Clients', ['connected'], whole), () => [sampler.history('ringmq_clients_connected')]],
    [chart('Dropped messages', ['dropped'], rate), () => [sampler.sumRates(DROPPED)]],
  ];
  const [shards, memory, store, welcome] = [el('div'), el('div'), el('div'), el('div')];
  const version = el('span', { class: 'dim' });
  fill(root,
    head('Overview', version),
    welcome,
    el('div', { class: 'tiles' }, tiles.map(({ node }) => node)),
    el('div', { class: 'charts' }, charts.map(([{ node }]) => node)),
    el('div', { class: 'halves' }, card('Shards', shards), card('Memory', memory, store)));
  let limit = null;
  get('config').then(({ settings }) => {
    limit = memoryMax(settings);
  }, () => {});
  return sampler.read(() => {
    const values = sampler.latest();
    fill(version, versionOf(values));
    for (const { update } of tiles) update(values);
    for (const [{ draw }, series] of charts) draw(series());
    fill(shards, shardsOf(values));
    fill(memory, memoryOf(values, limit));
    fill(store, storeOf(values));
    const isAlone = sampler.now('ringmq_clients_accepted_total') === 0;
    if (isAlone !== (welcome.childElementCount > 0)) fill(welcome, isAlone && greeting());
  });
}

function rates(key) {
  return sampler.rates(key);
}

function versionOf(values) {
  const [version] = family(values, 'ringmq_build_info', 'version')[0] ?? ['?'];
  const shards = values.get('ringmq_shards');
  return `version ${version}, ${shards} shard${shards === 1 ? '' : 's'}`;
}

// The page that a tile leads to, its title, and what it shows: a value, more words, and whether
// that is bad.
const TILES = [
  ['clients', 'Clients', (values) => {
    const connected = values.get('ringmq_clients_connected');
    const away = values.get('ringmq_sessions') - connected;
    const more = away > 0 ? `and ${whole(away)} sessions of clients that are away` : 'connected';
    return [whole(connected), more];
  }],
  [null, 'Messages in', (values) => total(RECEIVED, values)],
  [null, 'Messages out', (values) => total(SENT, values)],
  ['drops', 'Dropped', (values) => {
    const now = sampler.sumRate(DROPPED);
    return [rate(now), `${short(sumOf(values, DROPPED))} in all`, now > 0];
  }],
  ['subscriptions', 'Subscriptions', (values) =>
    [whole(values.get('ringmq_subscriptions')), 'of all sessions']],
  ['retained', 'Retained', (values) =>
    [whole(values.get('ringmq_retained_messages')), bytes(values.get('ringmq_retained_bytes'))]],
  [null, 'Queued', (values) => [whole(values.get('ringmq_messages_queued')), 'messages wait']],
  [null, 'Memory', (values) => [bytes(sumOf(values, 'ringmq_memory_bytes')), 'for clients']],
];

function total(key, values) {
  return [rate(sampler.rate(key)), `${short(values.get(key))} in all`];
}

function tile([page, title, tell]) {
  const [value, more] = [el('strong'), el('span', { class: 'dim' })];
  const content = [el('span', { class: 'what' }, title), value, more];
  const node = page === null
    ? el('div', { class: 'tile' }, content)
    : el('a', { class: 'tile', href: `#/${page}` }, content);
  const update = (values) => {
    const [text, words, isBad] = tell(values);
    fill(value, text);
    fill(more, words);
    value.classList.toggle('bad', Boolean(isBad));
  };
  return { node, update };
}

function shardsOf(values) {
  const connections = family(values, 'ringmq_shard_connections', 'shard');
  const of = (start, shard) => `${start}{shard="${shard}"}`;
  const busy = (shard) => sampler.rate(of('ringmq_shard_busy_seconds_total', shard));
  return table([
    { title: 'Shard', cell: ([shard]) => shard },
    { title: 'Busy', kind: 'grow', cell: ([shard]) => bar(busy(shard)) },
    { title: 'Connections', kind: 'number', cell: ([, count]) => whole(count) },
    {
      title: 'Sessions',
      kind: 'number',
      cell: ([shard]) => whole(values.get(of('ringmq_shard_sessions', shard))),
    },
    {
      title: 'In',
      kind: 'number',
      cell: ([shard]) => rate(sampler.rate(of('ringmq_shard_publish_received_total', shard))),
    },
  ], connections);
}

function bar(part) {
  const meter = el('meter', { min: 0, max: 1, high: 0.8, value: Math.min(part ?? 0, 1) });
  return el('span', { class: 'bar' }, meter, el('span', {}, percent(part)));
}

function memoryOf(values, limit) {
  const kinds = family(values, 'ringmq_memory_bytes', 'kind').filter(([, size]) => size > 0);
  kinds.sort(([, one], [, other]) => other - one);
  const sum = sumOf(values, 'ringmq_memory_bytes');
  const line = limit && el('p', {}, bar(sum / limit), ` of ${bytes(limit)} (--max-memory)`);
  return [line, table([
    { title: 'Kind', cell: ([kind]) => kind },
    { title: 'Part', kind: 'grow', cell: ([, size]) => bar(sum > 0 ? size / sum : 0) },
    { title: 'Bytes', kind: 'number', cell: ([, size]) => bytes(size) },
  ], kinds, 'Clients take no memory yet.')];
}

function storeOf(values) {
  const conditions = family(values, 'ringmq_store_condition', 'condition');
  const [now] = conditions.find(([, value]) => value === 1) ?? [null];
  const kind = now === 'ok' ? 'good' : 'bad';
  const words = now === null
    ? [badge('plain', 'none'), ' Nothing survives a restart: ', el('code', {}, '--data-dir'),
      ' keeps it.']
    : [badge(kind, now), ` ${bytes(values.get('ringmq_store_bytes'))} on disk`];
  return el('p', { class: 'store' }, 'Store: ', words);
}

// The setting in bytes, if it is a number with a unit.
function memoryMax(settings) {
  const text = settings.find((it) => it.key === 'max-memory')?.values[0] ?? '';
  const found = /^([\d.]+)\s*([KMGT]?)(i?)B?$/i.exec(text);
  if (!found) return null;
  const power = ' KMGT'.indexOf(found[2].toUpperCase() || ' ');
  return Number(found[1]) * (found[3] === '' ? 1000 : 1024) ** power;
}

function greeting() {
  return card('No client has come yet',
    el('p', {}, 'The broker runs and waits for clients. To try it:'),
    el('pre', {}, `mosquitto_sub -h ${location.hostname} -t 'room/#' &\n`
      + `mosquitto_pub -h ${location.hostname} -t room/temperature -m 20.5`),
    el('p', {}, 'What happens is then shown here, and on the page ',
      link('clients', 'Clients'), '.'));
}
