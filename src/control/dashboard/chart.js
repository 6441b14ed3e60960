// A small chart: lines over the last minutes.

import { el, fill, svg } from './dom.js';
import { span } from './format.js';

const [WIDTH, HEIGHT] = [300, 96];
// How far back a chart may begin.
const WINDOWS = [60, 120, 300];

// A chart of so many lines. `draw` takes the points of each: seconds ago, and value. The scale has
// round numbers of this unit.
export function chart(title, labels, format, unit = () => 1) {
  const top = el('span', { class: 'axis' });
  const values = labels.map(() => el('strong', {}, '–'));
  const legend = labels.map((label, place) =>
    el('span', { class: 'key' }, el('i', { class: `dot s${place}` }), label, ' ', values[place]));
  const time = el('span', { class: 'axis' });
  const areas = labels.map((_, place) => svg('path', { class: `area s${place}` }));
  const lines = labels.map((_, place) => svg('path', { class: `line s${place}` }));
  const mark = svg('line', { class: 'mark', y1: 0, y2: HEIGHT, visibility: 'hidden' });
  const plot = svg('svg', {
    viewBox: `0 0 ${WIDTH} ${HEIGHT}`,
    preserveAspectRatio: 'none',
    role: 'img',
    'aria-label': `${title}, the last minutes`,
    on: {
      pointermove: (event) => point(event),
      pointerleave: () => point(null),
    },
  }, grid(), areas, lines, mark);
  let [series, pointed, seconds] = [[], null, WINDOWS[0]];
  const x = (ago) => WIDTH * (1 - Math.min(ago, seconds) / seconds);

  function point(event) {
    if (event === null) {
      pointed = null;
    } else {
      const { left, width } = plot.getBoundingClientRect();
      pointed = seconds * (1 - (event.clientX - left) / width);
    }
    tell();
  }

  function tell() {
    const nearest = (points) => points.reduce(
      (best, it) => (Math.abs(it.ago - pointed) < Math.abs(best.ago - pointed) ? it : best),
      points[0] ?? { ago: 0, value: null });
    const found = series.map((points) => (pointed === null ? points.at(-1) : nearest(points)));
    found.forEach((it, place) => fill(values[place], format(it?.value ?? null)));
    const ago = found[0]?.ago ?? 0;
    const then = ago < 1 ? 'now' : `${span(ago)} ago`;
    fill(time, pointed === null ? `the last ${span(seconds)}` : then);
    mark.setAttribute('visibility', pointed === null ? 'hidden' : 'visible');
    for (const end of ['x1', 'x2']) mark.setAttribute(end, x(ago));
  }

  function draw(drawn) {
    series = drawn;
    const oldest = drawn[0]?.[0]?.ago ?? 0;
    seconds = WINDOWS.find((it) => it >= oldest) ?? WINDOWS.at(-1);
    const known = drawn.flat().map((it) => it.value).filter((it) => it !== null);
    const most = Math.max(0, ...known);
    const highest = ceiling(most, unit(most));
    fill(top, format(highest));
    drawn.forEach((points, place) => {
      const line = path(points, highest, x);
      lines[place].setAttribute('d', line);
      areas[place].setAttribute('d', area(points, line, x));
    });
    tell();
  }

  const node = el('figure', { class: 'chart card' },
    el('figcaption', {}, el('h2', {}, title), el('span', { class: 'keys' }, legend)),
    el('div', { class: 'plot' }, top, plot),
    time);
  return { node, draw };
}

function grid() {
  return [0.5, HEIGHT / 2, HEIGHT - 0.5].map((y) =>
    svg('line', { class: 'grid', x1: 0, x2: WIDTH, y1: y, y2: y }));
}

function path(points, highest, x) {
  const known = points.filter((it) => it.value !== null);
  const place = ({ ago, value }) =>
    `${x(ago).toFixed(1)} ${(HEIGHT - 1 - (value / highest) * (HEIGHT - 4)).toFixed(1)}`;
  return known.length < 2 ? '' : `M${known.map(place).join('L')}`;
}

function area(points, line, x) {
  if (line === '') return '';
  const first = points.find((it) => it.value !== null);
  return `${line}L${WIDTH} ${HEIGHT}L${x(first.ago).toFixed(1)} ${HEIGHT}Z`;
}

// The next round number that is larger.
function ceiling(value, unit) {
  if (value <= 0) return unit;
  const size = unit * 10 ** Math.floor(Math.log10(value / unit));
  return [1, 1.2, 1.5, 2, 3, 5, 8, 10, 12].map((it) => it * size).find((it) => it >= value * 1.05);
}
