// The form that imports a file of labels: the file, then its layer and the field with the class.
import {fill, find, make, say, warn} from './dom.js';
import {count} from './words.js';

/** Choices of the file's layers and fields come from the server, which reads the file as the import does. */
export class ImportForm {
  #layers = []; // of the file that was chosen: {name, fields}
  #reading = null; // the file that is read

  constructor(session) {
    Object.assign(this, {session});
    find('import-file').addEventListener('change', () => this.#read());
    find('import-layer').addEventListener('change', () => this.#showFields());
    find('import').addEventListener('submit', event => {
      event.preventDefault();
      this.#send();
    });
  }

  get #file() {
    return find('import-file').files[0];
  }

  async #read() {
    const file = this.#file;
    this.#reading = file;
    this.#layers = [];
    this.#show();
    if (!file) return;
    const {layers, fault} = await this.session.layersOf(file).catch(() => ({fault: 'geotl does not answer'}));
    if (this.#reading !== file) return; // another one was chosen meanwhile
    this.#layers = layers ?? [];
    this.#report(fault ? [fault] : layers.length ? [] : [`${file.name} has no layer with geometries.`]);
    this.#show();
  }

  #show() {
    const names = this.#layers.map(one => one.name);
    find('import-layers').hidden = names.length < 2;
    find('import-layer').replaceChildren(...names.map((name, k) => make('option', {value: k}, name ?? '')));
    find('import-fields').hidden = !names.length;
    this.#showFields();
  }

  get #layer() {
    return this.#layers[Number(find('import-layer').value)] ?? null;
  }

  // The field named class is taken, or else the first text.
  #showFields() {
    const fields = this.#layer?.fields ?? [];
    find('import-field').replaceChildren(...fields.map(name => make('option', {value: name}, name)));
    const usual = fields.find(name => name.toLowerCase() === 'class');
    if (usual) find('import-field').value = usual;
    if (this.#layer && !fields.length) this.#report([`${this.#layer.name ?? this.#file.name} has no field of texts or whole numbers.`]);
    find('import-send').disabled = Boolean(this.#file) && !fields.length;
  }

  async #send() {
    const file = this.#file;
    if (!file) {
      warn('Choose a file first.');
      return;
    }
    const {added, rejected} = await this.session.importFile(file, this.#layer?.name, find('import-field').value)
      .catch(() => ({added: 0, rejected: ['geotl does not answer']}));
    this.#report([`${count(added, 'label')} imported from ${file.name}.`, ...rejected]);
  }

  #report(lines) {
    fill(find('import-result'), lines.map(line => make('li', {}, line)));
    if (lines.length) say(lines.slice(0, 2).join(' '));
  }
}
