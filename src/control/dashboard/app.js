// The frame around the pages: which one is shown, how the broker is, and who looks.

import { access, hasToken, learnAccess } from './api.js';
import { askToken, logOut } from './dialog.js';
import { badge, button, el, fill } from './dom.js';
import { span } from './format.js';
import { sampler } from './metrics.js';
import { bans } from './pages/bans.js';
import { client } from './pages/client.js';
import { clients } from './pages/clients.js';
import { drops } from './pages/drops.js';
import { events } from './pages/events.js';
import { listeners } from './pages/listeners.js';
import { overview } from './pages/overview.js';
import { retained } from './pages/retained.js';
import { subscriptions } from './pages/subscriptions.js';
import { trial } from './pages/trial.js';

// All pages, in the order of the menu. Each has a path, a title, and `show`, which fills an
// element and may return what is to be done when the page is left. One without a title is reached
// by others.
const PAGES = [
  overview, clients, client, subscriptions, retained, drops, events, listeners, bans, trial,
];

const [main, nav] = ['main', 'nav'].map((id) => document.getElementById(id));
let leave = null;

function route() {
  const [path, ...rest] = location.hash.replace(/^#\//, '').split('/');
  const page = PAGES.find((it) => it.path === path) ?? PAGES[0];
  return { page, rest: rest.map(decoded) };
}

function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

function show() {
  const { page, rest } = route();
  leave?.();
  const content = el('div', { class: 'page' });
  fill(main, content);
  leave = page.show(content, ...rest) ?? null;
  document.title = `${page.title ?? rest[0]} – ringmq`;
  const menu = page.under ?? page.path;
  fill(nav, PAGES.filter((it) => it.title).map((it) => el('a', {
    href: `#/${it.path}`,
    'aria-current': it.path === menu && 'page',
  }, it.title)));
  nav.querySelector('[aria-current]')?.scrollIntoView({ block: 'nearest', inline: 'nearest' });
  window.scrollTo(0, 0);
}

// The page from its beginning, with what the one who looks may do now.
function renew() {
  tellWho();
  if (access.role === null && !mayRead) showGate();
  else show();
}

let mayRead = true;

async function begin() {
  let why = '';
  try {
    await learnAccess();
    mayRead = true;
  } catch (problem) {
    // A token that is no longer right hides what is to be read without one.
    if (hasToken() && problem.status === 401) {
      await logOut();
      return begin();
    }
    mayRead = problem.status !== 401;
    why = problem.status === 429 ? problem.message : '';
  }
  renew();
  if (mayRead) sampler.start();
  else await logIn(why);
  return undefined;
}

async function logIn(why) {
  if (await askToken(why)) {
    mayRead = true;
    renew();
    sampler.start();
  }
}

function showGate() {
  fill(main, el('div', { class: 'page gate' },
    el('h1', {}, 'A token is needed'),
    el('p', {}, 'This broker shows what it does to those who have a token.'),
    button('Log in', () => logIn(), { class: 'main' })));
}

function tellWho() {
  const role = access.role && badge('plain', access.role);
  const out = async () => {
    await logOut();
    await begin();
  };
  const act = hasToken() ? button('Log out', out) : button('Log in', () => logIn());
  fill(document.getElementById('account'), role, act);
}

function tellHealth({ problem, isReady }) {
  const health = document.getElementById('health');
  if (problem?.status === 401) {
    mayRead = false;
    logOut().then(renew);
  } else if (problem) {
    fill(health, badge('bad', problem.status === 0 ? 'no answer' : 'not well'),
      el('span', { class: 'dim' }, problem.message));
  } else {
    const uptime = span(sampler.now('ringmq_uptime_seconds'));
    const state = isReady ? badge('good', 'running') : badge('warn', 'lets no clients in');
    fill(health, state, el('span', { class: 'dim wide' }, `for ${uptime}`));
  }
}

sampler.readers.add(tellHealth);
addEventListener('hashchange', () => {
  if (mayRead) show();
  main.focus({ preventScroll: true });
});
begin();
