// What the model does and how far it can be trusted, as the server's events say.
import {curvePicture, curveWords} from './curve.js';
import {fill, find, make, say, warn} from './dom.js';
import {accuracySentence, blocksWords, count, memberWords, otherBlocksWords, percent, place} from './words.js';

const WHY = {typical: 'typical', uncertain: 'model unsure'};
const STAGE = {quick: 'Quick map', full: 'Full map'};

/** Emits `doubts` when the doubtful labels change, `awaits` (true or false) when a model is or was awaited. */
export class Learning extends EventTarget {
  places = [];
  revision = null; // of the labels that the map is of
  version = null; // of the map
  doubts = new Map(); // by the id of the label
  #visited = new Set();
  #points = []; // of the curve
  #tested = null; // the last event of accuracy, if it has one
  #awaited = null; // revision of the labels that a model is being fitted to
  #answered = null; // the change that the server has already said no map follows from

  constructor(session, map, classes) {
    super();
    Object.assign(this, {session, map, classes});
    const heard = {
      model: this.#model, waiting: this.#waiting, progress: this.#progress, accuracy: this.#accuracy,
      curve: this.#curve, suggestions: this.#suggestions, doubts: this.#doubtful, notice: this.#notice,
      fault: this.#fault,
      problem: ({message}) => warn(message, true),
    };
    for (const [kind, show] of Object.entries(heard)) {
      session.addEventListener(`event:${kind}`, ({detail}) => show.call(this, detail));
    }
    session.addEventListener('made', ({detail}) => this.#made(detail.entry));
    find('next-place').addEventListener('click', () => this.goToNext());
  }

  /** Go to the first suggested place that was not visited yet; the last ones come round again. */
  goToNext() {
    if (!this.places.length) {
      say('no suggested places yet');
      return;
    }
    if (this.places.every(one => this.#isVisited(one))) this.#visited.clear();
    this.goTo(this.places.find(one => !this.#isVisited(one)));
  }

  goTo(one) {
    this.#visited.add(`${one.col} ${one.row}`);
    this.map.goTo([one.col, one.row]);
    find('map').focus();
    document.body.classList.add('by-keys');
    say(`place ${one.number}, ${place([one.col, one.row])}: ${WHY[one.why] ?? one.why}`);
    this.#showPlaces();
  }

  /** Why a label is doubtful, in words. */
  doubtWords({looks_like: other, probability}) {
    const name = typeof other === 'number' ? this.classes.nameOf(other) : other;
    return `looks like ${name} (${percent(probability)} %)`;
  }

  #isVisited({col, row}) {
    return this.#visited.has(`${col} ${row}`);
  }

  #made(entry) {
    const {revision, mode} = this.session.state;
    const isNamesAlone = entry.changes.every(one => ['add_class', 'edit_class', 'delete_class'].includes(one.op));
    if (mode === 'sample' || isNamesAlone || entry === this.#answered || this.revision >= revision) return;
    this.#await(revision);
  }

  #await(revision) {
    this.#awaited = revision;
    this.dispatchEvent(new CustomEvent('awaits', {detail: revision !== null}));
  }

  #model({version, revision, stage, members, seconds, smooth_px: side}) {
    if (this.revision === null) say('the first map is shown');
    this.revision = revision;
    if (this.#awaited !== null && revision >= this.#awaited) this.#await(null);
    this.version = version;
    this.map.showVersion(version);
    find('model-state').textContent = `${STAGE[stage] ?? stage} in ${seconds.toFixed(1)} s.${memberWords(members)}`
      + `${side > 1 ? ` The map is smoothed in windows of ${side} px.` : ''}`;
  }

  // Without labels enough there is no map: an older one is taken away.
  #waiting({message}) {
    if (!message) return;
    find('model-state').textContent = message;
    this.revision = null;
    this.#answered = this.session.queue[0] ?? null;
    this.#await(null);
    this.map.showVersion(null);
  }

  #fault({message}) {
    this.#await(null);
    warn(`A fault while learning: ${message}`, true);
  }

  #notice({message}) {
    find('notice').textContent = message;
    find('notice').hidden = !message;
  }

  #progress({what, done, total}) {
    const key = `progress-${what}`;
    const old = [...find('progress').children].find(one => one.dataset.key === key);
    if (!total || done >= total) {
      old?.remove();
      return;
    }
    const bar = make('progress', {max: total, value: done, 'aria-label': what});
    const shown = make('label', {class: 'progress', 'data-key': key}, `${what}: ${percent(done / total)} % `, bar);
    if (old) old.replaceWith(shown);
    else find('progress').append(shown);
  }

  #accuracy(event) {
    const words = event.message ?? accuracySentence(event);
    find('accuracy-words').textContent = words;
    const of = event.labels ? ` From ${count(event.labels, 'label')}${blocksWords(event)}.` : '';
    if (!event.message) find('accuracy-words').append(of);
    this.#tested = event.message ? null : event;
    this.#showBlocks();
    fill(find('accuracy-classes'), event.classes && Object.keys(event.classes).length ? [this.#table(event.classes)] : []);
  }

  // The curve's points stay as they were measured, also where the blocks have changed.
  #showBlocks() {
    const words = this.#tested ? otherBlocksWords(this.#tested, this.#points) : '';
    find('blocks-words').hidden = !words;
    find('blocks-words').textContent = words;
  }

  #table(classes) {
    const share = value => make('td', {class: 'number'}, Number.isFinite(value) ? `${percent(value)} %` : '–');
    const head = [['Class'], ['Labels'], ['Recall'], ['Precision']]
      .map(([name], k) => make('th', {scope: 'col', class: k ? 'number' : null}, name));
    const order = this.classes.all.map(one => one.name);
    const sorted = Object.entries(classes).sort(([a], [b]) => order.indexOf(a) - order.indexOf(b));
    const rows = sorted.map(([name, one]) => make('tr', {}, make('th', {scope: 'row'}, name),
      make('td', {class: 'number'}, `${one.labels}`), share(one.recall), share(one.precision)));
    return make('table', {}, make('caption', {class: 'note'},
      'Recall: share of a class’s labels that get this class. Precision: share of the labels given this class that have it. Both blocked.'),
    make('thead', {}, make('tr', {}, ...head)), make('tbody', {}, ...rows));
  }

  #curve({points}) {
    this.#points = points;
    this.#showBlocks();
    find('curve').hidden = points.length < 2;
    if (points.length < 2) return;
    fill(find('curve-picture'), [curvePicture(points)]);
    find('curve-words').textContent = curveWords(points);
  }

  #suggestions({places}) {
    this.places = places;
    this.#showPlaces();
  }

  #showPlaces() {
    this.map.showPlaces(this.places.map(one => ({...one, visited: this.#isVisited(one)})));
    find('next-place').disabled = !this.places.length;
    find('next-words').textContent = this.places.length
      ? 'Numbered frames on the map: first places that are typical of much of the scene, later those where the model is unsure.'
      : 'Suggestions come when the features of the scene are ready.';
    fill(find('places'), this.places.map(one => make('li', {value: one.number}, make('button', {
      type: 'button', class: 'link', 'data-key': `place ${one.number}`, click: () => this.goTo(one),
    }, `${place([one.col, one.row])}`), ` ${WHY[one.why] ?? one.why}${this.#isVisited(one) ? ', visited' : ''}`)));
  }

  #doubtful({labels}) {
    this.doubts = new Map(labels.map(one => [one.id, one]));
    this.dispatchEvent(new CustomEvent('doubts'));
  }
}
