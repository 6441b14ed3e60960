// The subscriptions of all sessions.

import { el, fill, head, settled } from '../dom.js';
import { whole } from '../format.js';
import { sampler } from '../metrics.js';
import { Pages, table } from '../table.js';
import { SUBSCRIPTION_COLUMNS } from './client.js';
import { linkTo } from './clients.js';

export const subscriptions = { path: 'subscriptions', title: 'Subscriptions', show };

const CLIENT = { title: 'Client Identifier', cell: ({ client_id: id }) => linkTo(id) };
const COLUMNS = [SUBSCRIPTION_COLUMNS[0], CLIENT, ...SUBSCRIPTION_COLUMNS.slice(1)];

function show(root) {
  const prefix = el('input', {
    id: 'prefix', type: 'search', placeholder: 'beginning of the Topic Filter',
    autocomplete: 'off', spellcheck: 'false',
  });
  const count = el('span', { class: 'dim' });
  const pages = new Pages({
    path: 'subscriptions',
    key: 'subscriptions',
    show: (entries) => table(COLUMNS, entries, 'No subscription fits.'),
  });
  const search = () => pages.begin({ prefix: prefix.value === '' ? null : prefix.value });
  prefix.addEventListener('input', settled(search));
  fill(root,
    head('Subscriptions', count),
    el('div', { class: 'tools' },
      el('label', { class: 'wide', for: 'prefix' }, 'Search', prefix),
      el('button', { type: 'button', on: { click: search } }, 'Refresh')),
    pages.node);
  search();
  return sampler.read(() => fill(count, whole(sampler.now('ringmq_subscriptions'))));
}
