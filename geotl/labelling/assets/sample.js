// A reference sample, labelled blind: point after point, without the map.
import {find, say} from './dom.js';
import {place} from './words.js';

export class Sample {
  points = [];
  current = null; // id of a point

  constructor(session, map) {
    Object.assign(this, {session, map});
    session.addEventListener('event:sample', ({detail}) => this.#heard(detail));
    find('next-sample').addEventListener('click', () => this.goToNext());
  }

  /** Go to the next point without a class, after the current one first. */
  goToNext() {
    const start = this.points.findIndex(one => one.id === this.current) + 1;
    const order = [...this.points.slice(start), ...this.points.slice(0, start)];
    const next = order.find(one => one.class === null) ?? order[0];
    if (!next) return;
    this.current = next.id;
    this.map.goTo([next.col, next.row]);
    find('map').focus();
    document.body.classList.add('by-keys');
    this.#show();
    say(`point ${this.points.indexOf(next) + 1} of ${this.points.length}, ${place([next.col, next.row])}`);
  }

  /** Give the current point a class and go to the next. */
  give(id) {
    const point = this.points.find(one => one.id === this.current);
    if (!point) return;
    this.session.change({op: 'reclass', id: point.id, class: id});
    point.class = id;
    this.goToNext();
  }

  #heard({points}) {
    this.points = points;
    if (this.current === null) this.goToNext();
    this.#show();
  }

  #show() {
    const done = this.points.filter(one => one.class !== null).length;
    const under = this.points.findIndex(one => one.id === this.current) + 1;
    find('sample-progress').textContent = `${done} of ${this.points.length} points have a class. Point ${under} is under the cross.`;
    find('sample-bar').max = Math.max(this.points.length, 1);
    find('sample-bar').value = done;
    this.map.showPlaces(this.points.map((one, k) => ({...one, number: k + 1, visited: one.class !== null})));
  }
}
