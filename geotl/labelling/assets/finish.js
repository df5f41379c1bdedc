// The end of a project: the button, how far its commands are, and what came of them.
import {fill, find, make, say} from './dom.js';
import {percent} from './words.js';

const WORDS = { // by the page's mode
  label: {
    running: 'Writing labels, model, map and report.',
    done: 'Finished: labels, model, map and report are written.',
    failed: 'Not finished.',
    cancelled: 'Cancelled. Results of an earlier Finish are as they were. Finish goes on where it ended, unless labels have changed.',
  },
  sample: {
    running: 'Testing the map with the answers.', done: 'Finished: the answers are in sample.gpkg.', failed: 'Not finished.',
    cancelled: 'Cancelled. The answers are in sample.gpkg; Finish tests the map again.',
  },
};

/** The button that writes labels, model, map and report, and the one that cancels it. */
export class Finishing {
  #step = 0; // that was said last

  constructor(session) {
    Object.assign(this, {session});
    find('finish').addEventListener('click', () => this.#begin());
    find('cancel-finish').addEventListener('click', () => this.#cancel());
    session.addEventListener('event:finish', ({detail}) => this.#show(detail));
  }

  get #words() {
    return WORDS[this.session.state.mode];
  }

  async #begin() {
    find('finish-part').hidden = false;
    find('finish-state').textContent = this.#words.running;
    find('finish-part').focus();
    find('finish-part').scrollIntoView({block: 'nearest'});
    const isStarted = await this.session.finish().catch(() => false);
    if (!isStarted) find('finish-state').textContent = 'Not started.';
  }

  async #cancel() {
    this.#moveFocus();
    find('cancel-finish').disabled = true;
    say('cancelling');
    const isTaken = await this.session.cancelFinish().catch(() => false);
    if (!isTaken) find('cancel-finish').disabled = false;
  }

  // A button that is disabled or hidden would take the focus with it.
  #moveFocus() {
    if (document.activeElement === find('cancel-finish')) find('finish-part').focus();
  }

  #show({state, line, files, step, share}) {
    const isRunning = state === 'running';
    find('finish-part').hidden = false;
    find('finish').disabled = isRunning;
    this.#showProgress(isRunning, step, share);
    const text = state === 'done' ? `${this.#words.done} ${line}` : line || this.#words[state];
    find('finish-state').textContent = text;
    fill(find('finish-files'), (files ?? []).map(name => make('li', {}, fileLink(name))));
    if (!isRunning) say(text);
  }

  #showProgress(isRunning, step, share) {
    if (!isRunning) this.#moveFocus();
    find('finish-progress').hidden = !isRunning;
    if (!isRunning) {
      this.#step = 0;
      find('cancel-finish').disabled = false;
      return;
    }
    const words = step ? `Step ${step.number} of ${step.of}: ${step.title}` : 'Beginning';
    find('finish-step').textContent = share > 0 ? `${words}, ${percent(share)} % of all` : words;
    if (Number.isFinite(share)) find('finish-bar').value = share;
    else find('finish-bar').removeAttribute('value'); // not known: the bar moves to and fro
    if (step && step.number !== this.#step) say(words);
    this.#step = step?.number ?? 0;
  }
}

const fileLink = name => (name.endsWith('.html')
  ? make('a', {href: `files/${name.split('/').pop()}`, target: '_blank', rel: 'noopener'}, name) : name);
