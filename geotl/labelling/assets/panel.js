// The rest of the panel: colours of the scene, the list of labels, import, banners.
import {fill, find, make, say, settle, swatch, warn} from './dom.js';
import {count, middle, place} from './words.js';

const MOST_LISTED = 200;

/** Choices of bands for red, green and blue, and the contrast. */
export class SceneColours {
  constructor(facts, map) {
    Object.assign(this, {facts, map});
    this.presets = {'True colour': facts.true_colour, 'False colour': facts.false_colour, 'Three bands': null};
    this.selects = [...document.querySelectorAll('select[data-band]')];
    this.#fillIn();
    find('colours').addEventListener('change', () => this.#preset());
    this.selects.forEach(one => one.addEventListener('change', () => this.#show()));
    find('contrast').addEventListener('input', () => this.#show());
    this.#show();
  }

  get bands() {
    return this.selects.map(one => Number(one.value));
  }

  #fillIn() {
    const {bands, shown, name, width, height, crs} = this.facts;
    this.selects.forEach((select, k) => {
      select.append(...bands.map((band, position) => make('option', {value: position}, band)));
      select.value = shown[k];
    });
    const offered = Object.entries(this.presets).filter(([title, positions]) => positions || title === 'Three bands');
    find('colours').append(...offered.map(([title]) => make('option', {}, title)));
    find('scene-words').textContent = `${name}: ${width.toLocaleString('en')} x ${height.toLocaleString('en')} pixels, ${count(bands.length, 'band')}${crs ? `, ${crs}` : ''}`;
  }

  #preset() {
    const positions = this.presets[find('colours').value];
    if (positions) this.selects.forEach((one, k) => { one.value = positions[k]; });
    this.#show();
  }

  #show() {
    const named = Object.entries(this.presets).find(([, positions]) => positions?.every((one, k) => one === this.bands[k]));
    if (named) find('colours').value = named[0];
    else find('colours').value = 'Three bands';
    const cut = Number(find('contrast').value);
    find('contrast-words').textContent = cut ? `${cut} % cut at both ends` : 'full range of values';
    this.map.showScene(this.bands, cut);
  }
}

/** The list of labels and their number; `open` goes to one. */
export function showLabels(session, classes, doubts, open) {
  const {labels} = session;
  const points = labels.filter(one => one.geometry.type === 'Point').length;
  find('label-counts').textContent = `${count(points, 'point')}, ${count(labels.length - points, 'polygon')}, ${count(session.state.classes.length, 'class', 'classes')}`;
  if (find('labels-list').open) {
    const newest = labels.slice(-MOST_LISTED).reverse();
    fill(find('labels'), newest.map(one => labelItem(one, classes, '', open)));
    if (labels.length > MOST_LISTED) find('labels').append(make('li', {}, `and ${labels.length - MOST_LISTED} older ones`));
  }
  const doubtful = labels.filter(one => doubts.has(one.id));
  find('doubts-part').hidden = !doubtful.length;
  fill(find('doubts'), doubtful.map(one => labelItem(one, classes, doubts.get(one.id), open)));
}

function labelItem(label, classes, more, open) {
  const {colour} = classes.all.find(one => one.id === label.class) ?? {colour: '#888888'};
  const kind = label.geometry.type === 'Point' ? 'point' : 'polygon';
  const name = label.id < 0 ? kind : `${kind} ${label.id}`;
  return make('li', {}, swatch(colour), make('button', {
    type: 'button', class: 'link', 'data-key': `label ${label.id}`, click: () => open(label),
  }, `${name}: ${classes.nameOf(label.class)}`), ` ${place(middle(label.geometry))}${more ? `; ${more}` : ''}`);
}

/** The form that imports a file of labels. */
export function offerImport(session) {
  find('import').addEventListener('submit', async event => {
    event.preventDefault();
    const [file] = find('import-file').files;
    if (!file) {
      warn('Choose a file first.');
      return;
    }
    const {added, rejected} = await session.importFile(file, find('import-field').value.trim())
      .catch(() => ({added: 0, rejected: ['geotl does not answer']}));
    const lines = [`${count(added, 'label')} imported from ${file.name}.`, ...rejected];
    fill(find('import-result'), lines.map(line => make('li', {}, line)));
    say(lines.slice(0, 2).join(' '));
  });
}

/** What is saved, who has the pen, whether the server answers. */
export function followSession(session) {
  const show = () => {
    const number = session.queue.length;
    const isWatching = session.writer === false;
    document.body.classList.toggle('watching', isWatching);
    find('watching').hidden = !isWatching;
    find('offline').hidden = !session.offline && !session.gone;
    find('waiting-changes').textContent = waitingWords(session);
    find('saved').textContent = number ? `Saving ${count(number, 'change')}` : 'All saved';
    find('undo').disabled = isWatching || !(session.state?.undo || number);
    find('redo').disabled = isWatching || !session.state?.redo;
  };
  for (const kind of ['state', 'pen', 'connection']) session.addEventListener(kind, show);
  session.addEventListener('refused', ({detail}) => warn(detail));
  session.addEventListener('made', settle);
  find('take').addEventListener('click', () => session.take());
  find('close-error').addEventListener('click', () => warn(''));
  find('redo').addEventListener('click', () => session.redo());
}

function waitingWords(session) {
  const number = session.queue.length;
  const words = number ? `${count(number, 'change')} ${number === 1 ? 'is' : 'are'}` : '';
  const list = session.queue.map(entry => session.words(entry)).join('; ');
  if (session.gone) {
    return `This address is not valid any more: geotl was probably started again. Open the address that it prints. ${number ? `Not saved: ${list}.` : 'All changes are saved.'}`;
  }
  if (session.isLongOffline) {
    return `If you started it again, open its new address. ${number ? `${words} kept in this tab alone and not saved there: ${list}.` : 'All changes are saved.'}`;
  }
  return `The page tries again every second. ${number ? `${words} kept in this tab and sent when geotl answers again: ${list}.` : 'All changes are saved.'}`;
}
