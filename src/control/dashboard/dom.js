// Elements of a page. What comes from outside is put in as text, and only as text.

const SVG = 'http://www.w3.org/2000/svg';

// An element with these properties and children. A child that is no element becomes text; null
// and false are left out. `on` has listeners, all else are attributes.
export function el(tag, properties = {}, ...children) {
  return filled(document.createElement(tag), properties, children);
}

export function svg(tag, properties = {}, ...children) {
  return filled(document.createElementNS(SVG, tag), properties, children);
}

function filled(element, properties, children) {
  for (const [key, value] of Object.entries(properties)) {
    if (key === 'on') {
      for (const [event, listener] of Object.entries(value)) {
        element.addEventListener(event, listener);
      }
    } else if (value === true) {
      element.setAttribute(key, '');
    } else if (value !== false && value !== null && value !== undefined) {
      element.setAttribute(key, String(value));
    }
  }
  element.append(...shown(children));
  return element;
}

// Puts these children in the place of all that an element has.
export function fill(element, ...children) {
  element.replaceChildren(...shown(children));
  return element;
}

function shown(children) {
  const wanted = children.flat(2).filter((it) => it !== null && it !== undefined && it !== false);
  return wanted.map((it) => (it instanceof Node ? it : String(it)));
}

// Control characters, those that turn the direction of a text or have no width, and lone halves
// of a pair.
const UNSEEN = new RegExp(
  '[\\u0000-\\u001f\\u007f-\\u009f\\u00ad\\u061c\\u180e\\u200b-\\u200f\\u2028-\\u202e' +
    '\\u2060-\\u206f\\ufeff\\ufff9-\\ufffb]|\\p{Cs}',
  'gu',
);

// A name that a client has chosen. What would not be seen is named by its number, and what is
// written from right to left does not reach into its neighbours.
export function name(text) {
  const whole = el('bdi', { class: 'name' });
  let end = 0;
  for (const found of text.matchAll(UNSEEN)) {
    const number = found[0].codePointAt(0).toString(16).toUpperCase().padStart(4, '0');
    whole.append(text.slice(end, found.index), el('span', { class: 'unseen' }, `U+${number}`));
    end = found.index + found[0].length;
  }
  whole.append(text.slice(end));
  return text === '' ? el('bdi', { class: 'name empty' }, '(empty)') : whole;
}

// A name that may be missing.
export function optional(text, otherwise = '–') {
  return text === null ? el('span', { class: 'dim' }, otherwise) : name(text);
}

export function button(label, act, properties = {}) {
  return el('button', { type: 'button', on: { click: act }, ...properties }, label);
}

export function link(page, ...children) {
  return el('a', { href: `#/${page}` }, ...children);
}

export function badge(kind, text) {
  return el('span', { class: `badge ${kind}` }, text);
}

// A title with what stands beside it.
export function head(title, ...beside) {
  return el('div', { class: 'head' }, el('h1', {}, title), ...beside);
}

export function card(title, ...children) {
  return el('section', { class: 'card' }, title && el('h2', {}, title), ...children);
}

// Calls a function once nothing has happened for a moment.
export function settled(act, pause = 250) {
  let timer = 0;
  return () => {
    clearTimeout(timer);
    timer = setTimeout(act, pause);
  };
}
