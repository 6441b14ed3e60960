// What the broker counts, asked for again and again, and remembered for some minutes.

import { isReady, metrics } from './api.js';

const PAUSE = 2000;
const SAMPLES_MAX = 150;

// The samples of the text format of Prometheus, by their whole name with labels.
export function parse(text) {
  const values = new Map();
  for (const line of text.split('\n')) {
    if (line === '' || line.startsWith('#')) continue;
    const end = line.lastIndexOf(' ');
    values.set(line.slice(0, end), Number(line.slice(end + 1)));
  }
  return values;
}

// The samples of a family with one label: label and value.
export function family(values, start, label) {
  const [begin, found] = [`${start}{${label}="`, []];
  for (const [key, value] of values) {
    if (key.startsWith(begin)) found.push([key.slice(begin.length, -2), value]);
  }
  return found;
}

export class Sampler {
  constructor() {
    this.samples = [];
    this.problem = null;
    this.isReady = true;
    this.readers = new Set();
    this.timer = 0;
  }

  // Asks now, and from now on every two seconds.
  async start() {
    clearTimeout(this.timer);
    try {
      const [text, ready] = await Promise.all([metrics(), isReady()]);
      this.take(parse(text));
      [this.problem, this.isReady] = [null, ready];
    } catch (problem) {
      this.problem = problem;
    }
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.start(), PAUSE);
    for (const reader of this.readers) reader(this);
  }

  take(values) {
    const last = this.latest();
    // The broker has started anew: what it counts begins at zero.
    if (last && values.get(UPTIME) < last.get(UPTIME)) this.samples = [];
    this.samples.push({ at: performance.now(), values });
    if (this.samples.length > SAMPLES_MAX) this.samples.shift();
  }

  latest() {
    return this.samples.at(-1)?.values;
  }

  // Calls the reader after each sample, and now if there is one. Returns how to end that.
  read(reader) {
    this.readers.add(reader);
    if (this.latest()) reader(this);
    return () => this.readers.delete(reader);
  }

  // A value now.
  now(key) {
    return this.latest()?.get(key) ?? null;
  }

  // The values of all samples, each with its time in seconds before the last one.
  history(key) {
    return this.series((sample) => sample.values.get(key) ?? null);
  }

  // How much a counter grew in a second, between each two samples.
  rates(key) {
    return this.series((sample, before) => rateOf(key, before, sample));
  }

  rate(key) {
    const [before, last] = this.samples.slice(-2);
    return rateOf(key, before, last);
  }

  // The same for the sum of a family.
  sumRates(start) {
    const sum = (values) => sumOf(values, start);
    return this.series((sample, before) => growth(before, sample, sum));
  }

  sumRate(start) {
    const [before, last] = this.samples.slice(-2);
    return growth(before, last, (values) => sumOf(values, start));
  }

  series(value) {
    const end = this.samples.at(-1)?.at ?? 0;
    const point = (sample, place) => ({
      ago: (end - sample.at) / 1000,
      value: value(sample, this.samples[place - 1]),
    });
    return this.samples.map(point);
  }
}

function rateOf(key, before, sample) {
  return growth(before, sample, (values) => values.get(key));
}

function growth(before, sample, value) {
  if (!before || !sample) return null;
  const [from, to] = [value(before.values), value(sample.values)];
  if (from === undefined || to === undefined || to < from) return null;
  return ((to - from) * 1000) / (sample.at - before.at);
}

export function sumOf(values, start) {
  let sum = 0;
  for (const [key, value] of values) {
    if (key.startsWith(`${start}{`)) sum += value;
  }
  return sum;
}

const UPTIME = 'ringmq_uptime_seconds';
export const sampler = new Sampler();
