// The three tools: points, polygons, and the selection that moves, deletes and reclasses labels.
import {say, warn, find} from './dom.js';
import {Collection, Draw, Modify, Translate} from './ol.js';
import {polygonFault} from './polygon.js';
import {fromMap, toMap} from './scene_map.js';
import {sketchStyles} from './styles.js';
import {place} from './words.js';

const DOUBLE_MS = 400; // the second click of a double click sets no second point

/** Emits `change` when the tool, the selection or the drawing changes, `asked` with a place. */
export class Tools extends EventTarget {
  tool = 'point';
  selected = null; // id of a label
  corners = 0; // of the polygon that is being drawn
  dragging = false;
  #last = {time: 0, pixel: [0, 0]};
  #held = new Collection();
  #sketch = null; // the polygon that is being drawn

  constructor(session, map, classes) {
    super();
    Object.assign(this, {session, map, classes});
    this.draw = this.#polygonTool();
    this.movers = [new Translate({features: this.#held}), new Modify({features: this.#held})];
    [this.draw, ...this.movers].forEach(one => {
      one.setActive(false);
      map.chart.addInteraction(one);
    });
    this.movers.forEach(one => this.#followMover(one));
    map.chart.on('click', event => this.#clicked(event.pixel));
  }

  /** Take a tool: point, polygon or select. */
  take(tool) {
    this.cancel();
    this.#last.time = 0;
    this.tool = tool;
    this.draw.setActive(tool === 'polygon');
    this.movers.forEach(one => one.setActive(tool === 'select'));
    this.#changed();
    say(`${tool} tool`);
  }

  /** Use the tool at the place under the cross. */
  useMiddle() {
    if (this.tool === 'polygon') this.#addCorner(this.map.middle);
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

  endPolygon() {
    if (this.corners && this.#isPolygon()) this.draw.finishDrawing();
  }

  /** Take the last corner of the polygon back that is being drawn; false where none is drawn. */
  takeCornerBack() {
    if (!this.corners) return false;
    warn('');
    this.draw.removeLastPoint(); // of the only corner: the drawing ends
    if (this.corners) say('the last corner was taken back');
    this.corners = Math.max(0, this.#drawn().length);
    this.#changed();
    return true;
  }

  // The last place of the sketch is the pointer's, and the ring is closed.
  #drawn() {
    return this.#sketch?.getGeometry().getCoordinates()[0]?.slice(0, -2) ?? [];
  }

  // A fault leaves the corners as they are, so that they can be changed.
  #isPolygon() {
    const fault = polygonFault(this.#drawn());
    warn(fault);
    return !fault;
  }

  /** Leave the polygon that is being drawn, or the selection. */
  cancel() {
    if (this.corners) {
      this.draw.abortDrawing();
      warn('');
    }
    this.corners = 0;
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
    this.session.change({op: 'add', class: this.classes.active.id, geometry});
  }

  #clicked(pixel) {
    const {time, pixel: before} = this.#last;
    const isSecond = performance.now() - time < DOUBLE_MS && Math.hypot(pixel[0] - before[0], pixel[1] - before[1]) < 4;
    this.#last = {time: performance.now(), pixel};
    if (isSecond || this.tool === 'polygon' || this.isBlind) return;
    if (this.tool === 'point') this.addPoint(this.map.placeAt(pixel));
    else this.#selectAt(pixel);
  }

  #selectAt(pixel) {
    const id = this.map.labelAt(pixel);
    this.select(id ?? null);
    if (id === undefined) this.dispatchEvent(new CustomEvent('asked', {detail: this.map.placeAt(pixel)}));
  }

  #addCorner([x, y]) {
    if (!this.classes.active) {
      warn('Add a class first.');
      return;
    }
    this.draw.appendCoordinates([[x, -y]]);
    this.corners += 1;
    say(`corner ${this.corners} at ${place([x, y])}`);
    this.#changed();
  }

  #polygonTool() {
    const draw = new Draw({type: 'Polygon', style: sketchStyles(), freehandCondition: () => false, stopClick: true,
      finishCondition: () => this.#isPolygon(),
      condition: () => Boolean(this.classes.active) || warn('Add a class first.')});
    draw.on('drawstart', ({feature}) => {
      this.#sketch = feature;
      this.corners = 1;
      this.#changed();
    });
    draw.on('drawabort', () => {
      this.corners = 0;
      this.#changed();
    });
    draw.on('drawend', ({feature}) => {
      this.corners = 0;
      this.#changed();
      this.#add(fromMap(feature.getGeometry()));
    });
    return draw;
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
