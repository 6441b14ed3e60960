// Retained messages: a tree by the levels of their topics, or those that match a Topic Filter.

import { access, get, part, remove } from '../api.js';
import { confirmed } from '../dialog.js';
import { badge, button, card, el, fill, head, name, settled } from '../dom.js';
import { bytes, span, whole } from '../format.js';
import { sampler } from '../metrics.js';
import { Pages, table } from '../table.js';

export const retained = { path: 'retained', title: 'Retained', show };

const LEVELS = 200;
const SHOWN_MAX = 64 << 10;

function show(root) {
  const detail = el('div', { class: 'detail' }, hint());
  const [tree, count] = [el('div', { class: 'tree card' }), el('span', { class: 'dim' })];
  const filter = el('input', {
    id: 'filter', type: 'search', placeholder: 'a Topic Filter, such as room/+/temperature',
    autocomplete: 'off', spellcheck: 'false',
  });
  const open = (topic) => showMessage(detail, topic, begin);
  const pages = new Pages({
    path: 'retained', key: 'messages', show: (entries) => listOf(entries, open),
  });

  function begin() {
    if (filter.value === '') {
      fill(tree, el('ul', { class: 'levels' }));
      fillLevels(tree.firstChild, null, open);
    } else {
      fill(tree, pages.node);
      pages.begin({ filter: filter.value });
    }
  }

  filter.addEventListener('input', settled(begin));
  fill(root,
    head('Retained messages', count),
    el('div', { class: 'tools' },
      el('label', { class: 'wide', for: 'filter' }, 'Filter', filter),
      el('button', { type: 'button', on: { click: begin } }, 'Refresh')),
    el('div', { class: 'browse' }, tree, detail));
  begin();
  return sampler.read(() => {
    const size = bytes(sampler.now('ringmq_retained_bytes'));
    fill(count, `${whole(sampler.now('ringmq_retained_messages'))} messages, ${size}`);
  });
}

function hint() {
  return card(null, el('p', { class: 'dim' }, 'Choose a topic to see its message.'));
}

function listOf(entries, open) {
  return table([
    { title: 'Topic', kind: 'grow', cell: ({ topic }) => topicButton(topic, topic, open) },
    { title: 'QoS', kind: 'number', cell: ({ qos }) => qos },
    { title: 'Payload', kind: 'number', cell: (it) => bytes(it.payload_bytes) },
  ], entries, 'No retained message matches.');
}

function topicButton(text, topic, open) {
  return button(name(text), () => open(topic), { class: 'topic', 'data-topic': topic });
}

// One level of the tree, a page at a time.
async function fillLevels(list, below, open, cursor = null) {
  const waiting = el('li', { class: 'dim' }, 'loading …');
  list.append(waiting);
  try {
    const page = await get('topics', { below, limit: LEVELS, cursor });
    const levels = page.levels.map((it) => levelOf(it, open));
    if (below === null && cursor === null) levels.push(ownTopics(open));
    waiting.replaceWith(...levels);
    if (page.cursor !== null) {
      const more = el('li', {}, button('More …', () => {
        more.remove();
        fillLevels(list, below, open, page.cursor);
      }));
      list.append(more);
    }
    if (list.childElementCount === 0) list.append(el('li', { class: 'dim' }, 'nothing'));
  } catch (problem) {
    waiting.replaceWith(el('li', { class: 'trouble' }, problem.message));
  }
}

// What the broker tells of itself, which no filter with a wildcard at its beginning has.
function ownTopics(open) {
  return levelOf({ level: '$SYS', topic: '$SYS', retained: false, deeper: true }, open);
}

function levelOf({ level, topic, retained: hasMessage, deeper }, open) {
  const inner = el('ul', { class: 'levels', hidden: true });
  let isFilled = false;
  const unfold = button('', () => {
    inner.hidden = !inner.hidden;
    unfold.setAttribute('aria-expanded', String(!inner.hidden));
    if (!isFilled) fillLevels(inner, topic, open);
    isFilled = true;
  }, { class: 'fold', 'aria-expanded': 'false', 'aria-label': `Levels below ${topic}` });
  const label = hasMessage
    ? topicButton(level, topic, open)
    : el('span', { class: 'topic', on: { click: () => unfold.click() } }, name(level));
  return el('li', {},
    deeper ? unfold : el('span', { class: 'leaf' }),
    label, deeper && inner);
}

async function showMessage(detail, topic, renew) {
  try {
    fill(detail, messageOf(await get(`retained/${part(topic)}`), detail, renew));
  } catch (problem) {
    fill(detail, card(name(topic), el('p', { class: 'trouble', role: 'alert' }, problem.message)));
  }
}

function messageOf(message, detail, renew) {
  const { topic } = message;
  const gone = (done) => {
    if (!done) return;
    fill(detail, hint());
    renew();
  };
  const erase = () => confirmed('Delete this retained message?',
    el('p', {}, 'New subscribers of ', name(topic), ' no longer get it. Those who are connected'
      + ' get an empty message.'),
    'Delete', () => remove(`retained/${part(topic)}`)).then(gone);
  const facts = [
    badge('plain', `QoS ${message.qos}`), ' ',
    badge('plain', bytes(message.payload_bytes)), ' ',
    message.content_type !== null && badge('plain', name(message.content_type)), ' ',
    message.expires_in !== null && badge('warn', `expires in ${span(message.expires_in)}`),
  ];
  return card(name(topic),
    el('p', {}, facts),
    el('pre', { class: 'payload', tabindex: 0 }, payloadOf(message)),
    access.may_change && !topic.startsWith('$')
      && button('Delete', erase, { id: 'delete', class: 'danger' }));
}

// JSON in lines, other text as it is, and all else as bytes.
function payloadOf({ payload, payload_base64: encoded }) {
  if (payload === null) return dump(atob(encoded));
  const shown = payload.slice(0, SHOWN_MAX);
  const rest = payload.length > SHOWN_MAX ? '\n… and more' : '';
  if (/^\s*[{[]/.test(payload) && rest === '') {
    try {
      return textOf(JSON.stringify(JSON.parse(payload), null, 2));
    } catch {
      // It only begins like JSON.
    }
  }
  return [textOf(shown), rest];
}

// Lines stay lines.
function textOf(text) {
  return text.split('\n').flatMap((line, place) => (place > 0 ? ['\n', line] : [line]))
    .map((piece) => (piece === '\n' || piece === '' ? piece : name(piece)));
}

function dump(binary) {
  const lines = [];
  for (let at = 0; at < Math.min(binary.length, SHOWN_MAX / 16); at += 16) {
    const codes = [...binary.slice(at, at + 16)].map((it) => it.charCodeAt(0));
    const hex = codes.map((it) => it.toString(16).padStart(2, '0')).join(' ');
    const text = codes.map((it) => (it > 31 && it < 127 ? String.fromCharCode(it) : '.')).join('');
    lines.push(`${at.toString(16).padStart(6, '0')}  ${hex.padEnd(47)}  ${text}`);
  }
  return lines.join('\n') + (binary.length > SHOWN_MAX / 16 ? '\n… and more' : '');
}
