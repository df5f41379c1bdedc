// The layers of the map: shown or hidden, how opaque, and what their colours mean.
import {fill, find, make, swatch} from './dom.js';
import {LAYERS} from './scene_map.js';

const MEANING = {
  confidence: ['0', '100 % sure of the class'],
  applicability: ['just unlike the labelled places', 'very unlike; clear: like them'],
};

export class Layers {
  #shown = {classes: true, confidence: false, applicability: false};
  #before = null; // what was shown when all were hidden

  constructor(session, map) {
    Object.assign(this, {session, map});
    this.opacity = {classes: 0.6, confidence: 0.7, applicability: 0.7};
    find('layers').append(...Object.entries(LAYERS).map(([name, title]) => this.#item(name, title)));
    find('layers').append(this.#labelsItem());
    Object.keys(LAYERS).forEach(name => this.#apply(name));
  }

  /** Hide the labels, or show them; gives whether they are shown. */
  toggleLabels() {
    const box = find('layer-labels');
    box.checked = !box.checked;
    this.map.labels.setVisible(box.checked);
    return box.checked;
  }

  /** Hide all layers, or show again those that were shown. */
  toggle() {
    const isAny = Object.values(this.#shown).some(Boolean);
    const next = isAny ? {} : this.#before ?? {classes: true};
    if (isAny) this.#before = {...this.#shown};
    Object.keys(LAYERS).forEach(name => {
      find(`layer-${name}`).checked = Boolean(next[name]);
      this.#set(name, Boolean(next[name]));
    });
    return !isAny;
  }

  showClasses() {
    fill(find('legend-classes'), this.session.state.classes.map(one => make('span', {class: 'legend-item'}, swatch(one.colour), one.name)));
  }

  #set(name, visible) {
    this.#shown[name] = visible;
    this.#apply(name);
  }

  #apply(name) {
    this.map.setLayer(name, {visible: this.#shown[name], opacity: this.opacity[name]});
    find(`legend-${name}`).hidden = !this.#shown[name];
  }

  #item(name, title) {
    const box = make('input', {
      type: 'checkbox', id: `layer-${name}`, change: () => this.#set(name, box.checked)});
    box.checked = this.#shown[name];
    const slider = make('input', {
      type: 'range', min: 0, max: 100, step: 5, value: 100 * this.opacity[name], 'aria-label': `Opacity of ${title.toLowerCase()} in percent`,
      input: () => {
        this.opacity[name] = slider.value / 100;
        this.#apply(name);
      }});
    return make('li', {}, make('div', {class: 'row'}, make('label', {class: 'grow'}, box, title), slider),
      make('div', {class: 'legend note', id: `legend-${name}`}, ...(name === 'classes' ? [] : this.#scale(name))));
  }

  #labelsItem() {
    const box = make('input', {type: 'checkbox', id: 'layer-labels', change: () => this.map.labels.setVisible(box.checked)});
    box.checked = true;
    return make('li', {}, make('label', {class: 'row'}, box, 'Labels'),
      make('div', {class: 'legend note'}, '“?” beside a label: it looks like another class to the model'));
  }

  #scale(name) {
    const {confidence, outside} = document.body.dataset;
    const colours = name === 'confidence' ? confidence : outside;
    const bar = make('i', {class: 'ramp', 'aria-hidden': 'true'});
    bar.style.background = `linear-gradient(90deg, ${colours.split(' ').join(', ')})`;
    const [low, high] = MEANING[name];
    return [low, bar, high];
  }
}
