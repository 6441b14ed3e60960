// Tables, and lists that come in pages.

import { get } from './api.js';
import { button, el, fill } from './dom.js';
import { whole } from './format.js';

const ROWS = 100;
// Requests for one page. The broker may answer with too few entries, and where to go on.
const ASKED_MAX = 200;

// A table with these columns: a title, what stands in a cell, and a class.
export function table(columns, entries, empty = 'There is nothing.') {
  const head = columns.map(({ title, kind }) => el('th', { scope: 'col', class: kind }, title));
  const row = (entry) => el('tr', {}, columns.map(({ cell, kind }) =>
    el('td', { class: kind }, cell(entry))));
  const rows = entries.length > 0
    ? entries.map(row)
    : el('tr', {}, el('td', { class: 'none', colspan: columns.length }, empty));
  return el('div', { class: 'scroll' },
    el('table', {}, el('thead', {}, el('tr', {}, head)), el('tbody', {}, rows)));
}

// A list that is shown a page at a time. `show` makes the content of a page from its entries.
export class Pages {
  constructor({ path, key, show, rows = ROWS }) {
    Object.assign(this, { path, key, show, rows });
    this.query = {};
    this.content = el('div', { 'aria-live': 'polite' });
    this.place = el('span', { class: 'dim' });
    this.back = button('← Previous', () => this.turn(-1), { disabled: true });
    this.next = button('Next →', () => this.turn(1), { disabled: true });
    this.node = el('div', {}, this.content,
      el('div', { class: 'turns' }, this.back, this.next, this.place));
    this.round = 0;
  }

  // Begins anew, with what is asked for now.
  begin(query = this.query) {
    this.query = query;
    // Where each page begins that was shown.
    this.cursors = [null];
    return this.load();
  }

  turn(by) {
    if (by < 0) this.cursors.pop();
    else this.cursors.push(this.following);
    return this.load();
  }

  // Shows the page that begins at the last cursor.
  async load() {
    this.round += 1;
    const round = this.round;
    const isOld = () => round !== this.round || !this.node.isConnected;
    for (const turn of [this.back, this.next]) turn.disabled = true;
    fill(this.place, 'loading …');
    try {
      const { entries, cursor } = await this.gather(this.cursors.at(-1), isOld);
      if (isOld()) return;
      fill(this.content, this.show(entries));
      const number = this.cursors.length;
      fill(this.place, number > 1 || cursor !== null ? `page ${whole(number)}` : '');
      this.following = cursor;
      this.back.disabled = number < 2;
      this.next.disabled = cursor === null;
    } catch (problem) {
      if (isOld()) return;
      fill(this.place);
      fill(this.content, el('p', { class: 'trouble', role: 'alert' }, problem.message));
    }
  }

  async gather(from, isOld) {
    const entries = [];
    let cursor = from;
    for (let asked = 0; asked < ASKED_MAX; asked += 1) {
      const limit = this.rows - entries.length;
      const page = await get(this.path, { ...this.query, limit, cursor });
      entries.push(...page[this.key]);
      cursor = page.cursor;
      if (isOld() || cursor === null || entries.length >= this.rows) break;
      fill(this.place, `searching … ${whole(entries.length)} found`);
    }
    return { entries, cursor };
  }
}
