// What the page and the server say to each other: state, changes, events.
//
// A change waits in a queue until the server has answered, so that none is lost where the
// connection is: it is sent again, or the page says that it was not made. The queue outlives a
// reload of the tab.
import {changeWords, middle, refusalWords} from './words.js';

const RETRY_MS = 1000;
const LONG_MS = 4000; // a server that is away for longer was probably ended

class Unreachable extends Error {}

async function ask(path, options = {}) {
  let response;
  try {
    response = await fetch(path, {cache: 'no-store', ...options});
  } catch {
    throw new Unreachable();
  }
  const answer = await response.json().catch(() => ({}));
  return {status: response.status, answer};
}

const post = (path, body) => ask(path, {
  method: 'POST', body: JSON.stringify(body), headers: {'Content-Type': 'application/json'},
});

const near = (a, b) => a.type === b.type && middle(a).every((value, k) => Math.abs(value - middle(b)[k]) < 1e-3);

/** Whether the state already holds what a change adds: its answer was lost on the way. */
function isDone(change, state) {
  if (change.op === 'add') {
    return state.labels.some(one => one.class === change.class && near(one.geometry, change.geometry));
  }
  return change.op === 'add_class' && state.classes.some(one => one.name === change.name);
}

/** The labels as they will be when what waits has been made; added ones have negative ids. */
function withWaiting(labels, queue) {
  let shown = labels;
  const edit = (id, values) => shown.map(one => (one.id === id ? {...one, ...values, waiting: true} : one));
  const apply = {
    add: (change, k) => [...shown, {id: -1 - k, class: change.class, geometry: change.geometry, waiting: true}],
    move: change => edit(change.id, {geometry: change.geometry}),
    reclass: change => edit(change.id, {class: change.class}),
    delete: change => shown.filter(one => one.id !== change.id),
  };
  queue.forEach((entry, k) => entry.changes.forEach(change => {
    shown = apply[change.op]?.(change, k) ?? shown;
  }));
  return shown;
}

/**
 * Events: `state` (state or queue changed), `pen`, `connection`, `made` (entry, before), `dropped`
 * (entry, why; whoever shows it elsewhere cancels it), `refused` (text), and `event:KIND` for each kind that the server sends.
 */
export class Session extends EventTarget {
  client = crypto.randomUUID();
  state = null;
  writer = null; // null until the server has said who has the pen
  offline = false;
  isLongOffline = false;
  gone = false;
  finished = null; // the last event of finishing
  queue = [];
  #sending = false;
  #offlineTimer = null;
  #answers = 0; // states that the server has sent so far
  #kept = `geotl label ${location.pathname}`;

  /** Read the state; what an earlier page of this tab could not send is sent after `listen`. */
  async load() {
    await this.#untilAnswered(() => this.reload());
    const kept = JSON.parse(sessionStorage.getItem(this.#kept) ?? '[]');
    this.queue = kept.filter(entry => !this.#isDone(entry));
  }

  /** Hear the server's events from now on. */
  listen() {
    const events = new EventSource(`events?client=${this.client}`);
    events.onopen = () => this.#opened();
    events.onmessage = message => this.#heard(JSON.parse(message.data));
    events.onerror = () => { // opened again here, since a browser gives up on some answers
      events.close();
      this.#setOffline(true);
      setTimeout(() => this.#reopen(), RETRY_MS);
    };
  }

  get labels() {
    const {labels, mode} = this.state;
    return mode === 'sample' ? labels : withWaiting(labels, this.queue); // a sample has ids of its own
  }

  /** What an entry of the queue does. */
  words(entry) {
    return entry.changes.map(one => changeWords(one, this.state)).join(', ');
  }

  /** Make changes, as one step that can be undone; gives the entry of the queue, or null. */
  change(...changes) {
    return this.#enqueue({path: 'changes', changes});
  }

  undo() {
    this.#enqueue({path: 'undo', changes: [{op: 'undo'}]});
  }

  redo() {
    this.#enqueue({path: 'redo', changes: [{op: 'redo'}]});
  }

  /** Take the pen from the tab that has it. */
  async take() {
    try {
      const {answer} = await post('take', {client: this.client});
      this.#setWriter(answer.writer === true);
      await this.reload();
    } catch (failure) {
      this.#lost(failure);
    }
  }

  /** Begin to finish the project; whether it was begun. */
  finish() {
    return this.#order('finish', 'Not finished');
  }

  /** End what finishes the project; whether there was anything to end. */
  cancelFinish() {
    return this.#order('finish/cancel', 'Not cancelled');
  }

  async #order(path, otherwise) {
    const {status, answer} = await post(path, {client: this.client});
    if (status >= 400) this.#emit('refused', answer.detail ?? `${otherwise}: status ${status}.`);
    return status < 400;
  }

  /** Send a file of labels; gives the server's answer. */
  async importFile(file, field) {
    const query = new URLSearchParams({
      client: this.client, revision: this.state.revision, field, name: file.name,
    });
    const {status, answer} = await ask(`import?${query}`, {method: 'POST', body: file});
    if (status >= 400) return {added: 0, rejected: [answer.detail ?? `status ${status}`]};
    this.#setState(answer.state);
    return answer;
  }

  /** What the model says at a place, or null where there is no model yet. */
  async at([x, y]) {
    const {status, answer} = await ask(`at?col=${x}&row=${y}`);
    return status === 200 ? answer : null;
  }

  /** Read the newest state; one that was overtaken by a change's answer is not taken. */
  async reload() {
    const number = this.#answers;
    const {status, answer} = await ask('state');
    if (status === 404) this.#setGone();
    if (status !== 200) throw new Unreachable();
    if (number === this.#answers) this.#setState(answer);
  }

  #emit(kind, detail) {
    this.dispatchEvent(new CustomEvent(kind, {detail}));
  }

  #setState(state) {
    this.#answers += 1;
    this.state = {...this.state, ...state};
    this.#emit('state');
  }

  #setWriter(writer) {
    if (writer === this.writer) return;
    this.writer = writer;
    this.#emit('pen');
    if (writer) this.#send();
    else this.#refuseAll('another tab labels');
  }

  #setOffline(offline) {
    if (offline === this.offline) return;
    this.offline = offline;
    this.isLongOffline = false;
    clearTimeout(this.#offlineTimer);
    if (offline) this.#offlineTimer = setTimeout(() => this.#setLongOffline(), LONG_MS);
    this.#emit('connection');
  }

  #setLongOffline() {
    this.isLongOffline = true;
    this.#emit('connection');
  }

  // Another server, or the same after a start: what waits stays here and is listed.
  #setGone() {
    this.gone = true;
    this.#emit('connection');
    throw new Unreachable();
  }

  #keep() {
    sessionStorage.setItem(this.#kept, JSON.stringify(this.queue));
    this.#emit('state');
  }

  #enqueue(entry) {
    if (this.writer === false) {
      this.#emit('refused', 'Another tab labels this project. Press "Label here" to label in this one.');
      return null;
    }
    this.queue.push(entry);
    this.#keep();
    this.#send();
    return entry;
  }

  async #send() {
    if (this.#sending || !this.writer) return;
    this.#sending = true;
    try {
      while (this.queue.length && this.writer) await this.#sendFirst();
    } catch (failure) {
      this.#lost(failure);
      if (!this.gone) setTimeout(() => this.#send(), RETRY_MS);
    } finally {
      this.#sending = false;
    }
  }

  async #sendFirst() {
    const [entry] = this.queue;
    const before = this.state;
    const body = {client: this.client, revision: before.revision};
    if (entry.path === 'changes') body.changes = entry.changes;
    const {status, answer} = await post(entry.path, body);
    if (status === 404) this.#setGone();
    this.#setOffline(false);
    if (status < 400) {
      this.queue.shift();
      this.#setState(answer);
      this.#keep();
      this.#emit('made', {entry, before});
    } else if (status === 409) {
      await this.#afterConflict(entry);
    } else {
      if (status >= 500) await this.reload(); // it may have been made all the same
      this.#dropUnlessDone(entry, answer.detail ?? `geotl answered with status ${status}`);
    }
  }

  // The labels changed elsewhere: the newest are read, and the change is tried once more.
  async #afterConflict(entry) {
    await this.reload();
    await this.#hello();
    if (!this.writer) return;
    if (entry.again || entry.path !== 'changes' || this.#isDone(entry)) {
      this.#dropUnlessDone(entry, 'the labels were changed elsewhere meanwhile, and are shown as they are now');
    } else {
      entry.again = true;
    }
  }

  #isDone(entry) {
    return entry.changes.some(one => isDone(one, this.state));
  }

  #dropUnlessDone(entry, why) {
    const isDropped = !this.#isDone(entry);
    this.queue.shift();
    this.#keep();
    if (!isDropped) return;
    const dropped = new CustomEvent('dropped', {detail: {entry, why}, cancelable: true});
    if (this.dispatchEvent(dropped)) this.#emit('refused', this.#refusal([entry], why));
  }

  #refusal(entries, why) {
    const words = entries.flatMap(entry => entry.changes.map(one => refusalWords(one, this.state)));
    return `${words.join('; ')}: ${why}.`;
  }

  #refuseAll(why) {
    if (!this.queue.length) return;
    const lost = this.queue;
    this.queue = [];
    this.#keep();
    this.#emit('refused', this.#refusal(lost, why));
  }

  #lost(failure) {
    if (!(failure instanceof Unreachable)) throw failure;
    this.#setOffline(true);
  }

  async #hello() {
    const {status, answer} = await post('hello', {client: this.client});
    if (status === 200) this.#setWriter(answer.writer);
  }

  async #reopen() {
    await this.#untilAnswered(() => this.reload());
    if (!this.gone) this.listen();
  }

  async #opened() {
    await this.#untilAnswered(async () => {
      await this.reload();
      await this.#hello();
    });
    this.#setOffline(false);
    this.#send();
  }

  async #heard(event) {
    if (event.kind === 'pen') await this.#untilAnswered(() => this.#penIs(event.client));
    if (event.kind === 'labels' && event.revision !== this.state.revision && !this.#sending) {
      await this.#untilAnswered(() => this.reload());
    }
    if (event.kind === 'finish') this.finished = event;
    this.#emit(`event:${event.kind}`, event);
  }

  // A free pen is asked for: so a tab that was reloaded gets its own back.
  async #penIs(client) {
    if (client === null || client === undefined) await this.#hello();
    else this.#setWriter(client === this.client);
  }

  async #untilAnswered(work) {
    while (!this.gone) {
      try {
        await work();
        return;
      } catch (failure) {
        this.#lost(failure);
        await new Promise(done => { setTimeout(done, RETRY_MS); });
      }
    }
  }
}
