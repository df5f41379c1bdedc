// The page by keys alone.
import {find} from './dom.js';

const STEP = 64; // screen pixels
const ARROWS = {ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1]};

const isTyping = target => target.closest('dialog, form.edit') !== null || target.tagName === 'SELECT'
  || target.tagName === 'TEXTAREA' || (target.tagName === 'INPUT' && !['radio', 'checkbox'].includes(target.type));

/** Listen to keys; act: the functions that they call, by name. */
export function listenToKeys(map, act) {
  document.addEventListener('keydown', event => {
    if (isTyping(event.target)) return;
    const onMap = event.target === find('map');
    const done = event.ctrlKey || event.metaKey ? withControl(event, act)
      : (onMap && mapKey(event, map, act)) || singleKey(event, onMap, act);
    if (done) event.preventDefault();
  });
  find('map').addEventListener('keydown', () => document.body.classList.add('by-keys'));
  document.addEventListener('pointerdown', () => document.body.classList.remove('by-keys'), {capture: true});
  find('show-keys').addEventListener('click', () => find('keys').showModal());
}

function withControl({key, shiftKey}, act) {
  const name = key.toLowerCase();
  if (name === 'z' && !shiftKey) act.undo();
  else if (name === 'y' || name === 'z') act.redo();
  else return false;
  return true;
}

function mapKey(event, map, act) {
  const {key, shiftKey, altKey} = event;
  if (key in ARROWS) {
    const [right, down] = ARROWS[key];
    if (altKey) act.moveSelected(right, down);
    else if (shiftKey) map.pan(right, down, true);
    else map.pan(STEP * right, STEP * down);
    return true;
  }
  const keys = {
    '+': () => map.zoomBy(1), '=': () => map.zoomBy(1), '-': () => map.zoomBy(-1), 0: () => map.showAll(),
    ' ': act.useMiddle, Enter: act.enter, Escape: act.cancel,
  };
  keys[key]?.();
  return key in keys;
}

function singleKey({key, altKey, target}, onMap, act) {
  if (altKey || (find('keys-on-map').checked && !onMap)) return false;
  if (/^[1-9]$/.test(key)) {
    act.digit(Number(key));
    return true;
  }
  const keys = {
    n: act.next, u: act.undo, p: () => act.tool('point'), g: () => act.tool('polygon'), s: () => act.tool('select'),
    i: act.ask, h: act.hide, l: act.labels, delete: act.deleteSelected, backspace: act.deleteSelected, escape: act.cancel,
    '?': () => find('keys').showModal(),
  };
  const name = key.toLowerCase();
  if (name === 'backspace' && target.closest('.panel')) return false;
  keys[name]?.();
  return name in keys;
}
