// Who comes and who goes, as it happens.

import { stream } from '../api.js';
import { badge, button, el, fill, head, name, optional, settled } from '../dom.js';
import { clock, whole } from '../format.js';
import { linkTo } from './clients.js';

export const events = { path: 'events', title: 'Events', show };

const ROWS_MAX = 300;
const WAITING_MAX = 2000;
const PAUSE = 2000;
const KINDS = {
  connected: 'good', disconnected: 'plain', refused: 'bad', 'session-ended': 'plain', lost: 'warn',
};

function show(root) {
  const rows = el('tbody');
  const prefix = el('input', {
    id: 'prefix', type: 'search', placeholder: 'beginning of the Client Identifier',
    autocomplete: 'off', spellcheck: 'false',
  });
  const state = el('span', { class: 'dim', role: 'status' });
  let [waiting, isPaused, missed, frame, ended] = [[], false, 0, 0, null];
  const pause = button('Pause', () => {
    isPaused = !isPaused;
    fill(pause, isPaused ? 'Go on' : 'Pause');
    draw();
  });

  function take(event) {
    waiting.push(event);
    if (waiting.length > WAITING_MAX) {
      waiting.shift();
      missed += 1;
    }
    if (frame === 0) frame = requestAnimationFrame(draw);
  }

  function draw() {
    frame = 0;
    if (isPaused) {
      fill(state, `paused; ${whole(waiting.length + missed)} have come since`);
      return;
    }
    if (missed > 0) waiting.unshift({ time: Date.now(), event: 'lost', count: missed });
    const shown = waiting.slice(-ROWS_MAX).map(row).reverse();
    [waiting, missed] = [[], 0];
    rows.prepend(...shown);
    while (rows.childElementCount > ROWS_MAX) rows.lastChild.remove();
    fill(state, rows.childElementCount === 0 ? 'waits for events' : 'live');
  }

  function listen() {
    ended?.abort();
    ended = new AbortController();
    follow(prefix.value, ended.signal, take, (text) => fill(state, text), draw);
  }

  prefix.addEventListener('input', settled(listen));
  fill(root,
    head('Events', state),
    el('div', { class: 'tools' },
      el('label', { class: 'wide', for: 'prefix' }, 'Only of', prefix),
      pause, button('Clear', () => fill(rows))),
    el('div', { class: 'scroll' }, el('table', {},
      el('thead', {}, el('tr', {}, ['Time', 'Event', 'Client Identifier', 'User', 'Details'].map(
        (title) => el('th', { scope: 'col' }, title)))),
      rows)));
  listen();
  return () => {
    ended.abort();
    cancelAnimationFrame(frame);
  };
}

// Reads the stream, again and again, until it is told to end.
async function follow(prefix, signal, take, tell, begin) {
  while (!signal.aborted) {
    try {
      const body = await stream('events', { prefix: prefix === '' ? null : prefix }, signal);
      begin();
      await readEvents(body, take);
      tell('The stream has ended; it begins anew soon.');
    } catch (problem) {
      if (signal.aborted) return;
      tell(problem.message);
    }
    await new Promise((resolve) => {
      setTimeout(resolve, PAUSE);
    });
  }
}

async function readEvents(body, take) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let text = '';
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const parts = (text + value).split('\n\n');
    text = parts.pop();
    for (const part of parts) {
      const lines = part.split('\n');
      const data = lines.find((line) => line.startsWith('data: '));
      const kind = lines.find((line) => line.startsWith('event: '));
      const event = kind && { time: Date.now(), event: kind.slice(7) };
      if (data && kind) take({ ...event, ...JSON.parse(data.slice(6)) });
    }
  }
}

function row(event) {
  const isKnown = event.client_id !== null && event.client_id !== undefined;
  const client = isKnown && event.event !== 'refused'
    ? linkTo(event.client_id) : optional(event.client_id ?? null);
  return el('tr', {},
    el('td', { class: 'mono' }, clock(event.time)),
    el('td', {}, badge(KINDS[event.event] ?? 'plain', event.event)),
    el('td', {}, client),
    el('td', {}, optional(event.user ?? null)),
    el('td', { class: 'grow' }, detailsOf(event)));
}

function detailsOf(event) {
  if (event.event === 'lost') return `${whole(event.count)} events were missed`;
  const words = [
    event.peer && `from ${event.peer}`,
    event.listener && `at ${event.listener}`,
    event.version && `MQTT ${event.version}`,
    event.cause && `cause: ${event.cause}`,
    event.session_present && 'goes on with its session',
    event.session && `session ${event.session}`,
    event.will && `Will ${event.will}`,
    event.new_peer && `taken over by ${event.new_peer}`,
    event.flag && `see ${event.flag}`,
  ];
  const facts = words.filter(Boolean).join(', ');
  return event.reason ? [facts, ' – ', name(event.reason)] : facts;
}
