// Elements of the page: found, made and filled. Texts are always set as text, never as HTML.

export const find = id => document.getElementById(id);

/** An element with attributes and children; a child is a node or a text. */
export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  set(element, attributes);
  element.append(...children);
  return element;
}

/** The same for a picture of lines. */
export function draw(tag, attributes = {}, ...children) {
  const element = document.createElementNS('http://www.w3.org/2000/svg', tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

// An attribute of null or false is left out; of a function, it listens to that event.
function set(element, attributes) {
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === 'function') element.addEventListener(name, value);
    else if (value !== null && value !== false) element.setAttribute(name, value === true ? '' : value);
  }
}

/** Put children in place of an element's own; the focus stays on the child of the same key. */
export function fill(element, children) {
  const focused = element.contains(document.activeElement) ? document.activeElement.dataset.key : null;
  element.replaceChildren(...children);
  if (focused) element.querySelector(`[data-key="${CSS.escape(focused)}"]`)?.focus();
}

/** A patch of a class's colour. */
export function swatch(colour) {
  const patch = make('i', {class: 'swatch', 'aria-hidden': 'true'});
  patch.style.background = colour;
  return patch;
}

/** Say in the page's live region what happened; the same words twice are said twice. */
export function say(text) {
  const region = find('status');
  region.textContent = region.textContent === text ? `${text}\u00a0` : text;
}

/** Show an error until it is closed or another comes; one that does not stay, until a success. */
export function warn(text, stays = false) {
  find('error').dataset.stays = stays;
  find('error-text').textContent = text;
  find('error').hidden = !text;
}

/** Something was made: a refusal of before is out of date. */
export function settle() {
  if (find('error').dataset.stays !== 'true') warn('');
}
