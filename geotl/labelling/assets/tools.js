// The three tools: points, polygons, and the selection that moves, deletes and reclasses labels.
import {say, warn, find} from './dom.js';
import {Drawing} from './drawing.js';
import {Collection, Modify, Translate} from './ol.js';
import {REMEDY} from './polygon.js';
import {fromMap, toMap} from './scene_map.js';
import {place} from './words.js';

const DOUBLE_MS = 400; // the second tap of a double tap sets no second point

/** Emits `change` when the tool, the selection or the drawing changes, `asked` with a place. */
export class Tools extends EventTarget {
  tool = 'point';
  selected = null; // id of a label
  dragging = false;
  #last = {time: -Infinity, pixel: [0, 0]};
  #clicks = 1; // of the mouse on one place: 2 of a double click
  #held = new Collection();
  #polygon = null; // entry of the queue with the polygon that was drawn last

  constructor(session, map, classes) {
    super();
    Object.assign(this, {session, map, classes});
    this.drawing = new Drawing(map, () => Boolean(classes.active) || warn('Add a class first.'));
    this.drawing.addEventListener('change', () => this.#changed());
    this.drawing.addEventListener('drawn', ({detail}) => { this.#polygon = this.#add(detail); });
    session.addEventListener('dropped', event => this.#dropped(event));
    this.movers = [new Translate({features: this.#held}), new Modify({features: this.#held})];
    this.movers.forEach(one => {
      one.setActive(false);
      map.chart.addInteraction(one);
    });
    this.movers.forEach(one => this.#followMover(one));
    find('map').addEventListener('mousedown', ({detail}) => { this.#clicks = detail; }, {capture: true});
    map.chart.on('click', event => this.#clicked(event));
  }

  /** Take a tool: point, polygon or select. */
  take(tool) {
    this.cancel();
    this.#last.time = -Infinity;
    this.tool = tool;
    this.drawing.setActive(tool === 'polygon');
    this.movers.forEach(one => one.setActive(tool === 'select'));
    this.#changed();
    say(`${tool} tool`);
  }

  /** Use the tool at the place under the cross. */
  useMiddle() {
    if (this.tool === 'polygon') this.drawing.addCorner(this.map.middle);
    else if (this.tool === 'point') this.addPoint(this.map.middle);
    else this.#selectUnderCross();
  }

  #selectUnderCross() {
    const id = this.map.labelAt(this.map.pixelOf(this.map.middle), 12);
    this.select(id ?? null);
    if (id === undefined) say('no label under the cross');
  }

  addPoint(at) {
    if (!this.classes.active) {
      warn('Add a class first.');
      find('new-class').focus();
    } else if (!this.map.contains(at)) {
      warn(`No pixel of the scene at ${place(at)}.`);
    } else {
      this.#add({type: 'Point', coordinates: at.map(value => Math.round(100 * value) / 100)});
    }
  }

  /** Leave the polygon that is being drawn, or the selection. */
  cancel() {
    this.drawing.leave();
    this.select(null);
  }

  select(id) {
    const label = this.session.labels.find(one => one.id === id && id >= 0);
    this.selected = label ? id : null;
    if (label) say(`${label.geometry.type === 'Point' ? 'point' : 'polygon'} ${id}: ${this.classes.nameOf(label.class)}, selected`);
    this.#changed();
  }

  deleteSelected() {
    if (this.selected === null) return;
    this.session.change({op: 'delete', id: this.selected});
    this.select(null);
  }

  /** Give the selected label a class; false where none is selected. */
  reclassSelected(id) {
    if (this.selected === null) return false;
    this.session.change({op: 'reclass', id: this.selected, class: id});
    return true;
  }

  /** Move the selected label by pixels of the scene. */
  moveSelected(right, down) {
    const label = this.session.labels.find(one => one.id === this.selected);
    if (!label) return;
    const moved = toMap(label.geometry);
    moved.translate(right, -down);
    this.session.change({op: 'move', id: label.id, geometry: fromMap(moved)});
  }

  /** The labels were drawn again: the selection holds the new drawing. */
  labelsShown() {
    const feature = this.selected === null ? null : this.map.featureOf(this.selected);
    if (!feature) this.selected = null;
    this.#held.clear();
    if (feature && this.tool === 'select') this.#held.push(feature);
  }

  #changed() {
    this.dispatchEvent(new CustomEvent('change'));
  }

  #add(geometry) {
    return this.session.change({op: 'add', class: this.classes.active.id, geometry});
  }

  // A polygon that the server refused is drawn on, unless another one has been begun.
  #dropped(event) {
    const {entry, why} = event.detail;
    if (entry !== this.#polygon || this.drawing.isDrawing) return;
    event.preventDefault();
    this.take('polygon');
    this.drawing.restore(entry.changes[0].geometry.coordinates[0].slice(0, -1));
    warn(`The polygon was not added: ${why}. ${REMEDY}`);
  }

  // The system says which click of the mouse is a second one, also where this page is late.
  #isSecond({pixel, originalEvent}) {
    if (originalEvent.pointerType === 'mouse') return this.#clicks > 1;
    const {time, pixel: before} = this.#last;
    this.#last = {time: originalEvent.timeStamp, pixel};
    return originalEvent.timeStamp - time < DOUBLE_MS && Math.hypot(pixel[0] - before[0], pixel[1] - before[1]) < 4;
  }

  #clicked(event) {
    const {pixel} = event;
    const isSecond = this.#isSecond(event);
    if (isSecond || this.tool === 'polygon' || this.isBlind) return;
    if (this.tool === 'point') this.addPoint(this.map.placeAt(pixel));
    else this.#selectAt(pixel);
  }

  #selectAt(pixel) {
    const id = this.map.labelAt(pixel);
    this.select(id ?? null);
    if (id === undefined) this.dispatchEvent(new CustomEvent('asked', {detail: this.map.placeAt(pixel)}));
  }

  #followMover(mover) {
    const kind = mover instanceof Translate ? 'translate' : 'modify';
    mover.on(`${kind}start`, () => { this.dragging = true; });
    mover.on(`${kind}end`, ({features}) => {
      this.dragging = false;
      features.forEach(one => this.session.change({op: 'move', id: one.getId(), geometry: fromMap(one.getGeometry())}));
    });
  }
}
