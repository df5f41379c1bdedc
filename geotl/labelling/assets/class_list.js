// The classes: choose, add, rename, recolour, merge, delete. The chosen one is what the tools give.
import {fill, find, make, say, swatch, warn} from './dom.js';
import {count} from './words.js';

/** Emits `choose` when another class is chosen. */
export class ClassList extends EventTarget {
  #active = null;
  #added = null; // name of a class on its way to the server
  #kept = `geotl label ${location.pathname} class`;
  #editing = null; // id of the class whose form is open
  #form = null;
  #saving = null; // what the open form has sent

  /** isSample: choosing a class gives it to the current point at once, and none stays chosen. */
  constructor(session, isSample) {
    super();
    Object.assign(this, {session, isSample});
    this.#active = Number(sessionStorage.getItem(this.#kept)) || null;
    find('add-class').addEventListener('submit', event => this.#add(event));
    session.addEventListener('made', ({detail}) => this.#made(detail.entry));
    session.addEventListener('dropped', event => this.#dropped(event));
  }

  get all() {
    return this.session.state.classes;
  }

  /** The class that the tools give, or undefined where there is none. */
  get active() {
    return this.all.find(one => one.id === this.#active) ?? this.all[0];
  }

  nameOf(id) {
    return this.all.find(one => one.id === id)?.name ?? 'no class';
  }

  /** The key of a class, 1 to 9; later ones have none. */
  keyOf(id) {
    const number = this.all.findIndex(one => one.id === id) + 1;
    return number >= 1 && number <= 9 ? String(number) : '';
  }

  choose(id) {
    if (!this.isSample) {
      this.#activate(id);
      this.show();
      say(`${this.nameOf(id)} is the active class`);
    }
    this.dispatchEvent(new CustomEvent('choose', {detail: id}));
  }

  #activate(id) {
    this.#active = id;
    sessionStorage.setItem(this.#kept, id);
  }

  // A class that was just added is the one that is wanted next.
  #chooseAdded() {
    const added = this.#added && this.all.find(one => one.name === this.#added);
    if (!added) return;
    this.#added = null;
    this.#activate(added.id);
  }

  show() {
    this.#chooseAdded();
    const labels = this.session.labels;
    find('no-classes').hidden = this.all.length > 0;
    fill(find('classes'), this.all.map(one => this.#row(one, labels.filter(label => label.class === one.id).length)));
  }

  #row(one, number) {
    if (this.isSample) return make('li', {}, this.#answer(one, number));
    const radio = make('input', {
      type: 'radio', name: 'class', 'data-key': `choose ${one.id}`, change: () => this.choose(one.id),
    });
    radio.checked = one.id === this.active.id;
    const chosen = make('label', {class: 'grow'}, radio, ...this.#keyShown(one), swatch(one.colour),
      make('span', {class: 'name'}, one.name), make('span', {class: 'count'}, count(number, 'label')));
    const edit = make('button', {
      type: 'button', class: 'small labelling', 'aria-label': `Edit ${one.name}`, 'data-key': `edit ${one.id}`,
      'aria-expanded': String(this.#editing === one.id), click: () => this.#edit(one),
    }, 'Edit');
    const parts = [make('div', {class: radio.checked ? 'row active' : 'row'}, chosen, edit)];
    if (this.#editing === one.id) parts.push(this.#form);
    return make('li', {}, ...parts);
  }

  #keyShown({id}) {
    const key = this.keyOf(id);
    return key ? [make('kbd', {}, key)] : [];
  }

  #answer(one, number) {
    return make('button', {
      type: 'button', class: 'grow answer', 'data-key': `choose ${one.id}`, click: () => this.choose(one.id),
    }, ...this.#keyShown(one), swatch(one.colour), make('span', {class: 'name'}, one.name),
    make('span', {class: 'count'}, count(number, 'point')));
  }

  #add(event) {
    event.preventDefault();
    const name = find('new-class').value.trim();
    if (!name) return;
    if (this.all.some(one => one.name === name)) {
      warn(`There is a class ${name} already.`);
      return;
    }
    this.#added = name.normalize('NFC').replace(/\s+/g, ' ');
    this.session.change({op: 'add_class', name});
    find('new-class').value = '';
  }

  #made(entry) {
    if (entry !== this.#saving) return;
    this.#saving = null;
    this.#close();
  }

  // The form stays open, with the reason beside the field and the focus in it.
  #dropped(event) {
    const {entry, why} = event.detail;
    if (entry.changes[0].op === 'add_class') this.#refuseAdded(entry.changes[0].name);
    if (entry !== this.#saving) return;
    this.#saving = null;
    event.preventDefault();
    this.#form.querySelector('[role=alert]').textContent = `Not saved: ${why}.`;
    this.#form.querySelector('input').focus();
  }

  #refuseAdded(name) {
    this.#added = null;
    if (!find('new-class').value) find('new-class').value = name;
  }

  #edit(one) {
    this.#saving = null;
    this.#editing = this.#editing === one.id ? null : one.id;
    this.#form = this.#editing === null ? null : this.#makeForm(one);
    this.show();
    this.#form?.querySelector('input').focus();
  }

  #close() {
    const id = this.#editing;
    this.#editing = null;
    this.show();
    find('classes').querySelector(`[data-key="edit ${id}"]`)?.focus();
  }

  #makeForm(one) {
    const name = make('input', {type: 'text', value: one.name, maxlength: 60, 'data-key': 'edit name', autocomplete: 'off'});
    const colour = make('input', {type: 'color', value: one.colour, 'data-key': 'edit colour'});
    const save = event => {
      event.preventDefault();
      this.#saving = this.session.change({op: 'edit_class', id: one.id, name: name.value.trim(), colour: colour.value});
    };
    return make('form', {class: 'edit', submit: save},
      make('label', {}, 'Name ', name), make('label', {}, 'Colour ', colour),
      make('span', {class: 'fault', role: 'alert'}),
      make('button', {type: 'submit', 'data-key': 'edit save'}, 'Save'), ...this.#merging(one), this.#deleting(one),
      make('button', {type: 'button', 'data-key': 'edit close', click: () => this.#close()}, 'Close'));
  }

  #merging(one) {
    const others = this.all.filter(other => other.id !== one.id);
    if (!others.length) return [];
    const into = make('select', {'data-key': 'edit into'},
      make('option', {value: ''}, 'choose a class'), ...others.map(other => make('option', {value: other.id}, other.name)));
    const merge = () => {
      this.session.change({op: 'merge_class', id: one.id, into: Number(into.value)});
      this.#close();
    };
    const button = make('button', {type: 'button', 'data-key': 'edit merge', disabled: true, click: merge}, 'Merge');
    into.addEventListener('change', () => { button.disabled = !into.value; });
    return [make('label', {}, 'Merge into ', into), button];
  }

  #deleting(one) {
    const remove = () => {
      if (this.session.labels.some(label => label.class === one.id)) {
        warn(`${one.name} has labels. Merge it into another class, or delete its labels first.`);
        return;
      }
      this.session.change({op: 'delete_class', id: one.id});
      this.#close();
    };
    return make('button', {type: 'button', 'data-key': 'edit delete', click: remove}, 'Delete class');
  }
}
