// Bans: who may not connect, for how long, and why.

import { access, post, remove } from '../api.js';
import { confirmed } from '../dialog.js';
import { button, card, el, fill, head, name, optional } from '../dom.js';
import { date, whole } from '../format.js';
import { Pages, table } from '../table.js';

export const bans = { path: 'bans', title: 'Bans', show };

const KINDS = [['client_id', 'Client Identifier'], ['user', 'User'], ['address', 'Address']];
const SPANS = [['3600', 'an hour'], ['86400', 'a day'], ['604800', 'a week'], ['', 'ever']];

// `kind` and `value` are what the form begins with.
function show(root, kind, value) {
  const pages = new Pages({
    path: 'bans',
    key: 'bans',
    show: (entries) => table(columns(pages), entries, 'Nobody is banned.'),
  });
  const form = access.may_change ? formOf(pages, kind, value) : null;
  fill(root, head('Bans'), form, pages.node);
  pages.begin();
}

function columns(pages) {
  const end = (ban) => confirmed('End this ban?', el('p', {}, whom(ban), ' may connect again.'),
    'End the ban', () => remove(`bans/${ban.id}`)).then((done) => done && pages.begin());
  return [
    { title: 'Who', kind: 'grow', cell: whom },
    { title: 'Since', cell: ({ since }) => date(since) },
    { title: 'Until', cell: ({ until }) => (until === null ? 'for ever' : date(until)) },
    { title: 'Reason', cell: ({ reason }) => optional(reason) },
    { title: 'By', cell: ({ by }) => by },
    { title: '', cell: (ban) => access.may_change && button('End', () => end(ban)) },
  ];
}

function whom(ban) {
  const [kind, title] = KINDS.find(([key]) => ban[key] !== null);
  return [el('span', { class: 'dim' }, `${title} `), name(ban[kind])];
}

function formOf(pages, kind, value) {
  const what = el('select', { id: 'kind' }, KINDS.map(([key, title]) =>
    el('option', { value: key, selected: key === kind }, title)));
  const who = el('input', {
    id: 'banned', required: true, autocomplete: 'off', spellcheck: 'false',
  });
  who.value = value ?? '';
  const time = el('select', { id: 'time' }, SPANS.map(([seconds, words]) =>
    el('option', { value: seconds }, words)));
  const reason = el('input', { id: 'reason', autocomplete: 'off' });
  const told = el('p', { role: 'status' });
  const field = (title, input, kind = '') =>
    el('label', { class: kind, for: input.id }, title, input);

  async function ban(event) {
    event.preventDefault();
    const wanted = { [what.value]: who.value };
    if (time.value !== '') wanted.seconds = Number(time.value);
    if (reason.value !== '') wanted.reason = reason.value;
    try {
      const { disconnected } = await post('bans', wanted);
      told.className = 'dim';
      fill(told, `Banned. Clients that were disconnected: ${whole(disconnected)}.`);
      [who.value, reason.value] = ['', ''];
      await pages.begin();
    } catch (problem) {
      told.className = 'trouble';
      fill(told, problem.message);
    }
  }
  return card('Ban', el('form', { on: { submit: ban } },
    el('div', { class: 'tools' },
      field('Who', what), field('Name', who, 'wide'), field('For', time), field('Reason', reason),
      el('button', { class: 'danger' }, 'Ban')),
    told));
}
