// The polygon that is being drawn: its corners are set, moved, taken back, and kept until it is one.
import {find, say, warn} from './dom.js';
import {Draw} from './ol.js';
import {polygonFault} from './polygon.js';
import {fromMap} from './scene_map.js';
import {cornersOf, sketchStyles} from './styles.js';
import {place} from './words.js';

const NEAR = {mouse: 9, pen: 12, touch: 22}; // screen pixels about a corner in which it is taken
const STILL = 4; // screen pixels that a click may move

const distance = (a, b) => Math.hypot(a[0] - b[0], a[1] - b[1]);

/** Emits `change` when corners come or go, and `drawn` with the geometry of a polygon. */
export class Drawing extends EventTarget {
  #sketch = null;
  #held = null; // the corner that the pointer moves
  #isMoving = false;

  /** canDraw: whether there is a class to draw, or else says so. */
  constructor(map, canDraw) {
    super();
    Object.assign(this, {map, canDraw});
    this.draw = this.#tool();
    this.draw.setActive(false);
    map.chart.addInteraction(this.draw);
    const heard = {pointerdown: this.#take, pointermove: this.#move, pointerup: this.#drop, pointercancel: this.#drop};
    for (const [kind, act] of Object.entries(heard)) {
      find('map').addEventListener(kind, event => act.call(this, event), {capture: true}); // before OpenLayers
    }
  }

  /** Places of the corners, as column and row. */
  get corners() {
    return cornersOf(this.#sketch?.getGeometry().getCoordinates()[0] ?? []).map(([x, y]) => [x, -y]);
  }

  get isDrawing() {
    return this.corners.length > 0;
  }

  setActive(isActive) {
    this.draw.setActive(isActive);
  }

  /** Set a corner at a place. */
  addCorner(at) {
    if (!this.canDraw()) return;
    this.draw.appendCoordinates([[at[0], -at[1]]]);
    say(`corner ${this.corners.length} at ${place(at)}`);
    this.#changed();
  }

  /** End the polygon, unless its corners make none. */
  end() {
    if (this.isDrawing && this.#isPolygon()) this.draw.finishDrawing();
  }

  /** Take the last corner back; false where no polygon is drawn. */
  takeBack() {
    if (!this.isDrawing) return false;
    warn('');
    this.draw.removeLastPoint(); // of the only corner: the drawing ends
    if (this.isDrawing) say('the last corner was taken back');
    this.#changed();
    return true;
  }

  /** Leave the polygon. */
  leave() {
    if (!this.isDrawing) return;
    this.draw.abortDrawing();
    warn('');
  }

  /** Go on with corners, such as those of a polygon that was refused. */
  restore(corners) {
    this.#isMoving = true;
    this.draw.abortDrawing();
    this.draw.appendCoordinates(corners.map(([x, y]) => [x, -y]));
    this.#isMoving = false;
    this.#changed();
  }

  #changed() {
    if (!this.#isMoving) this.dispatchEvent(new CustomEvent('change'));
  }

  // A fault leaves the corners as they are, so that they can be changed.
  #isPolygon() {
    const fault = polygonFault(this.corners);
    warn(fault);
    return !fault;
  }

  #tool() {
    const draw = new Draw({type: 'Polygon', style: sketchStyles, freehandCondition: () => false, stopClick: true,
      finishCondition: () => this.#isPolygon(), condition: () => this.canDraw()});
    draw.on('drawstart', ({feature}) => {
      this.#sketch = feature;
      this.#changed();
    });
    draw.on('drawabort', () => {
      this.#sketch = null;
      this.#changed();
    });
    draw.on('drawend', ({feature}) => {
      this.#sketch = null;
      this.#changed();
      this.dispatchEvent(new CustomEvent('drawn', {detail: fromMap(feature.getGeometry())}));
    });
    return draw;
  }

  // A pointer that goes down on a corner moves it; a click on the first or last one ends the polygon.
  #take(event) {
    if (!this.isDrawing || !this.draw.getActive() || event.button || !event.isPrimary) return;
    const pixel = this.map.chart.getEventPixel(event);
    const near = NEAR[event.pointerType] ?? NEAR.mouse;
    const number = this.corners.findLastIndex(one => distance(this.map.pixelOf(one), pixel) < near);
    if (number < 0) return;
    event.stopPropagation();
    this.#held = {number, pixel, isMoved: false};
    find('map').setPointerCapture(event.pointerId);
  }

  #move(event) {
    if (!this.#held) return;
    event.stopPropagation();
    const pixel = this.map.chart.getEventPixel(event);
    this.#held.isMoved ||= distance(this.#held.pixel, pixel) > STILL;
    if (this.#held.isMoved) this.restore(this.corners.with(this.#held.number, this.map.placeAt(pixel)));
  }

  #drop(event) {
    if (!this.#held) return;
    event.stopPropagation();
    const {number, isMoved} = this.#held;
    const {corners} = this;
    this.#held = null;
    if (isMoved) {
      warn('');
      say(`corner ${number + 1} moved to ${place(corners[number])}`);
    } else if (event.type === 'pointerup' && corners.length > 2 && (number === 0 || number === corners.length - 1)) {
      this.end();
    }
  }
}
