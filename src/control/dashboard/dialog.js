// Questions that have to be answered before anything else.

import { hasToken, Problem, useToken } from './api.js';
import { button, el, fill } from './dom.js';

// Asks whether to do something, and does it. What stands against it is told in the dialog.
// Returns whether it was done.
export function confirmed(title, text, label, act) {
  return new Promise((resolve) => {
    const trouble = el('p', { class: 'trouble', role: 'alert' });
    const go = button(label, run, { class: 'danger' });
    const { dialog, close } = opened(title, [text, trouble], [go], resolve);

    async function run() {
      go.disabled = true;
      try {
        await act();
        close(true);
      } catch (problem) {
        fill(trouble, problem.message);
        go.disabled = false;
      }
    }
    dialog.querySelector('.cancel').focus();
  });
}

// Asks for a token. Returns whether there is another one now.
export function askToken(why = '') {
  return new Promise((resolve) => {
    const field = el('input', {
      id: 'token', type: 'password', autocomplete: 'current-password', spellcheck: 'false',
    });
    const trouble = el('p', { class: 'trouble', role: 'alert' }, why);
    const form = el('form', { on: { submit: (event) => run(event) } },
      el('p', {}, 'A line of the file that ', el('code', {}, '--http-token-file'),
        ' names is a role and a token. The token stays in this tab until it is closed.'),
      el('label', { for: 'token' }, 'Token'), field, trouble);
    const go = button('Log in', (event) => run(event), { class: 'main' });
    const { close } = opened('Log in', [form], [go], resolve);
    field.focus();

    async function run(event) {
      event.preventDefault();
      const token = field.value.trim();
      if (token === '') return;
      try {
        await useToken(token);
        close(true);
      } catch (problem) {
        if (!(problem instanceof Problem)) throw problem;
        await useToken(null).catch(() => {});
        fill(trouble, problem.message);
        field.select();
      }
    }
  });
}

export async function logOut() {
  if (hasToken()) await useToken(null).catch(() => {});
}

function opened(title, content, actions, resolve) {
  const cancel = button('Cancel', () => close(false), { class: 'cancel' });
  const dialog = el('dialog', { 'aria-labelledby': 'dialog-title' },
    el('h2', { id: 'dialog-title' }, title),
    ...content,
    el('div', { class: 'actions' }, cancel, ...actions));
  let outcome = false;

  function close(done) {
    outcome = done;
    dialog.close();
  }
  dialog.addEventListener('close', () => {
    dialog.remove();
    resolve(outcome);
  });
  document.body.append(dialog);
  dialog.showModal();
  return { dialog, close };
}
