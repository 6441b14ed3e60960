// Numbers and times as people read them.

const WHOLE = new Intl.NumberFormat('en');
const SIZES = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];

export function whole(number) {
  return number === null || number === undefined ? '–' : WHOLE.format(number);
}

// Three digits, with a letter for thousands.
export function short(number) {
  if (number === null || number === undefined) return '–';
  let [value, letter] = [number, ''];
  for (const next of ['k', 'M', 'G', 'T']) {
    if (Math.abs(value) < 1000) break;
    [value, letter] = [value / 1000, next];
  }
  return `${digits(value, letter === '')}${letter}`;
}

export function bytes(number) {
  if (number === null || number === undefined) return '–';
  let [value, place] = [number, 0];
  while (Math.abs(value) >= 1024 && place < SIZES.length - 1) {
    [value, place] = [value / 1024, place + 1];
  }
  return `${digits(value, place === 0)} ${SIZES[place]}`;
}

function digits(value, isExact) {
  if (isExact && Number.isInteger(value)) return String(value);
  const size = Math.abs(value);
  return value.toFixed(size >= 100 ? 0 : size >= 10 ? 1 : 2).replace(/\.0+$/, '');
}

// The largest unit of bytes that is not larger than this.
export function byteUnit(number) {
  return 1024 ** Math.max(0, Math.floor(Math.log2(Math.max(number, 1)) / 10));
}

export function rate(number) {
  return number === null || number === undefined ? '–' : `${short(number)}/s`;
}

export function byteRate(number) {
  return number === null || number === undefined ? '–' : `${bytes(number)}/s`;
}

export function percent(part) {
  return part === null || part === undefined ? '–' : `${digits(part * 100, false)} %`;
}

// A time span in its two largest units.
export function span(seconds) {
  const units = [['d', 86400], ['h', 3600], ['min', 60], ['s', 1]];
  const first = units.findIndex(([, size]) => seconds >= size);
  if (first < 0) return '0 s';
  let left = Math.floor(seconds);
  const parts = [];
  for (const [unit, size] of units.slice(first, first + 2)) {
    const count = Math.floor(left / size);
    if (count > 0) parts.push(`${count} ${unit}`);
    left -= count * size;
  }
  return parts.join(' ');
}

export function clock(milliseconds) {
  return new Date(milliseconds).toLocaleTimeString('en-GB');
}

export function date(milliseconds) {
  const at = new Date(milliseconds);
  return `${at.toLocaleDateString('sv')} ${at.toLocaleTimeString('en-GB')}`;
}
