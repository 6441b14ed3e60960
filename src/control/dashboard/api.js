// The API of the broker, and the token that it is asked with.

const KEY = 'ringmq-token';

// Why a request was not answered as it should be, in words for people.
export class Problem extends Error {
  constructor(status, detail) {
    super(detail);
    this.status = status;
  }
}

// What the one who looks may do. `role` is null as long as no token is shown.
export let access = { role: null, may_change: false };

// The token lasts as long as this tab.
export function hasToken() {
  return sessionStorage.getItem(KEY) !== null;
}

// Shows this token from now on; null shows none.
export async function useToken(token) {
  if (token === null) sessionStorage.removeItem(KEY);
  else sessionStorage.setItem(KEY, token);
  await learnAccess();
}

export async function learnAccess() {
  access = { role: null, may_change: false };
  access = await get('access');
}

export async function get(path, query = {}) {
  return (await ask('GET', withQuery(`/api/v1/${path}`, query))).json();
}

export async function post(path, body) {
  const answer = await ask('POST', `/api/v1/${path}`, body);
  return answer.status === 204 ? null : answer.json();
}

export async function remove(path) {
  await ask('DELETE', `/api/v1/${path}`);
}

export async function metrics() {
  return (await ask('GET', '/metrics')).text();
}

// Whether clients are let in.
export async function isReady() {
  try {
    await ask('GET', '/readyz');
    return true;
  } catch (problem) {
    if (problem.status === 503) return false;
    throw problem;
  }
}

// An answer that goes on.
export async function stream(path, query, signal) {
  return (await ask('GET', withQuery(`/api/v1/${path}`, query), undefined, signal)).body;
}

// One part of a path.
export function part(text) {
  return encodeURIComponent(text);
}

function withQuery(path, query) {
  const given = Object.entries(query).filter(([, value]) => value !== null && value !== undefined);
  const text = new URLSearchParams(given).toString();
  return text === '' ? path : `${path}?${text}`;
}

async function ask(method, path, body, signal) {
  const headers = {};
  const token = sessionStorage.getItem(KEY);
  if (token !== null) headers.Authorization = `Bearer ${token}`;
  const sent = body === undefined ? undefined : JSON.stringify(body);
  const options = { method, headers, body: sent, signal, cache: 'no-store' };
  let answer;
  try {
    answer = await fetch(path, options);
  } catch (error) {
    if (error.name === 'AbortError') throw error;
    throw new Problem(0, 'The broker does not answer.');
  }
  if (answer.ok) return answer;
  throw new Problem(answer.status, await detailOf(answer));
}

async function detailOf(answer) {
  try {
    const { detail } = await answer.json();
    return detail[0].toUpperCase() + detail.slice(1);
  } catch {
    return `The broker answered with the status ${answer.status}.`;
  }
}
