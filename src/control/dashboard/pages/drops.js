// What the broker has dropped, refused and ended, by the reason.

import { card, el, fill, head } from '../dom.js';
import { rate, whole } from '../format.js';
import { family, sampler } from '../metrics.js';
import { MEANINGS } from '../reasons.js';
import { table } from '../table.js';

export const drops = { path: 'drops', title: 'Drops', show };

const FAMILIES = [
  ['Dropped messages', 'ringmq_messages_dropped_total', 'reason'],
  ['Refused connections', 'ringmq_connections_refused_total', 'reason'],
  ['Ended connections', 'ringmq_connections_ended_total', 'reason'],
  ['Missing rights', 'ringmq_rights_denied_total', 'action'],
  ['Packets beyond a limit', 'ringmq_limit_refusals_total', 'limit'],
];

function show(root) {
  const parts = FAMILIES.map(([title, start, label]) => {
    const content = el('div');
    return { node: card(title, content), content, start, label };
  });
  const all = el('input', { type: 'checkbox', id: 'all' });
  const update = () => {
    for (const { content, start, label } of parts) {
      const found = family(sampler.latest(), start, label);
      const shown = found.filter(([, count]) => count > 0 || all.checked);
      fill(content, tableOf(start, label, shown));
    }
  };
  all.addEventListener('change', () => sampler.latest() && update());
  fill(root,
    head('Drops and refusals', el('span', { class: 'dim' }, 'since the broker has started')),
    el('p', {}, el('label', {}, all, ' Show also what has not happened')),
    parts.map(({ node }) => node));
  return sampler.read(update);
}

function tableOf(start, label, entries) {
  if (entries.length === 0) return el('p', { class: 'dim' }, 'None.');
  const words = MEANINGS[start] ?? {};
  return table([
    { title: label[0].toUpperCase() + label.slice(1), cell: ([it]) => el('strong', {}, it) },
    { title: 'Meaning', kind: 'grow', cell: ([it]) => words[it] ?? '' },
    {
      title: 'Now', kind: 'number',
      cell: ([it]) => rate(sampler.rate(`${start}{${label}="${it}"}`)),
    },
    { title: 'In all', kind: 'number', cell: ([, count]) => whole(count) },
  ], entries);
}
