// The page of `geotl label`: its parts made and joined.
import {ClassList} from './class_list.js';
import {find, say} from './dom.js';
import {Finishing} from './finish.js';
import {listenToKeys} from './keys.js';
import {Layers} from './layers.js';
import {Learning} from './learning.js';
import {followSession, offerImport, SceneColours, showLabels} from './panel.js';
import {Sample} from './sample.js';
import {SceneMap} from './scene_map.js';
import {Session} from './session.js';
import {Tools} from './tools.js';
import {changeWords, differenceWords, metres, mapPlace, middle, percent, place, roundBelow} from './words.js';

const session = new Session();
followSession(session);
await session.load();

const {scene, mode} = session.state;
const isSample = mode === 'sample';
document.body.classList.add(isSample ? 'mode-sample' : 'mode-label');
find('sample-part').hidden = !isSample;
find('project').textContent = session.state.project;

const map = new SceneMap(find('map'), scene);
const classes = new ClassList(session, isSample);
const tools = new Tools(session, map, classes);
const layers = new Layers(session, map);
const learning = new Learning(session, map, classes);
const sample = isSample ? new Sample(session, map) : null;
new SceneColours(scene, map);
tools.isBlind = isSample;
if (isSample) classes.addEventListener('choose', ({detail}) => sample.give(detail));

let pointer = null; // place under the pointer

function lookOf(label) {
  const {colour} = classes.all.find(one => one.id === label.class) ?? {colour: '#888888'};
  return {
    colour, key: classes.keyOf(label.class), selected: label.id === tools.selected,
    doubtful: learning.doubts.has(label.id), waiting: Boolean(label.waiting),
  };
}

function showAll() {
  classes.show();
  layers.showClasses();
  const reasons = new Map([...learning.doubts].map(([id, doubt]) => [id, learning.doubtWords(doubt)]));
  showLabels(session, classes, reasons, openLabel);
  if (tools.dragging) return; // drawn again when the label is where it was dragged
  map.showLabels(session.labels.map(one => ({...one, look: lookOf(one)})));
  tools.labelsShown();
}

function showTools() {
  for (const button of document.querySelectorAll('[data-tool]')) {
    button.setAttribute('aria-pressed', String(button.dataset.tool === tools.tool));
  }
  const label = session.labels.find(one => one.id === tools.selected);
  find('drawing').hidden = !tools.corners;
  find('selected').hidden = !label;
  find('selected-name').textContent = label ? `${label.geometry.type.toLowerCase()} ${label.id}: ${classes.nameOf(label.class)}` : '';
  find('map').dataset.using = tools.tool;
  showAll();
}

function openLabel(label) {
  map.goTo(middle(label.geometry));
  tools.take('select');
  tools.select(label.id);
  find('map').focus();
}

/** What a label under the pointer is, and why it is doubtful. */
function tipOf(id) {
  const label = session.labels.find(one => one.id === id);
  if (!label) return '';
  const doubt = learning.doubts.get(id);
  return `${label.geometry.type.toLowerCase()} ${id < 0 ? '' : id}: ${classes.nameOf(label.class)}${doubt ? `; ${learning.doubtWords(doubt)}` : ''}`;
}

function showTip(text, [x, y]) {
  const tip = find('tip');
  tip.hidden = !text;
  tip.textContent = text;
  tip.style.left = `${Math.min(x + 14, find('map').clientWidth - 180)}px`;
  tip.style.top = `${Math.max(y - 34, 4)}px`;
}

async function askModel(at) {
  if (isSample || !map.contains(at)) return;
  const answer = await session.at(at).catch(() => null);
  const text = answer ? modelWords(answer, at) : `${place(at)}: no map yet`;
  showTip(text, map.pixelOf(at));
  say(text);
}

function modelWords({probabilities, applicability, bands}, at) {
  const best = Object.entries(probabilities).sort(([, a], [, b]) => b - a).slice(0, 3)
    .map(([name, share]) => `${name} ${percent(share)} %`);
  const isData = Object.values(bands).some(value => value !== null);
  const like = applicability === null ? '' : applicability <= 1 ? '; like the labelled places'
    : `; unlike the labelled places, ${applicability.toFixed(1)} times the limit`;
  return `${place(at)}: ${best.join(', ') || (isData ? 'no map yet' : 'no data')}${like}`;
}

function showScale() {
  const metresEach = scene.pixel_m;
  const length = roundBelow(100 * map.resolution * (metresEach ?? 1));
  find('scale').hidden = false;
  find('scale-name').textContent = metresEach ? metres(length) : `${+length.toPrecision(3)} px`;
  find('scale-length').style.width = `${length / (metresEach ?? 1) / map.resolution}px`;
}

function showPointer(at) {
  const known = scene.crs ? `; ${at ? mapPlace(at, scene) : ''}` : '';
  find('here').textContent = at && map.contains(at) ? `${place(at)}${known}` : '';
}

// Who goes over the map by keys reads where the cross is.
function followCross() {
  if (isSample || document.body.classList.contains('by-keys')) showPointer(map.middle);
}

const busy = new Set();

function setBusy(what, isBusy) {
  if (isBusy) busy.add(what);
  else busy.delete(what);
  find('computing').hidden = !busy.size;
}

const act = {
  undo: () => tools.takeCornerBack() || session.undo(),
  redo: () => session.redo(),
  next: () => (isSample ? sample : learning).goToNext(),
  tool: name => !isSample && tools.take(name),
  useMiddle: () => !isSample && tools.useMiddle(),
  enter: () => (tools.corners ? tools.endPolygon() : act.useMiddle()),
  cancel: () => tools.cancel(),
  deleteSelected: () => tools.deleteSelected(),
  moveSelected: (right, down) => tools.moveSelected(right, down),
  ask: () => askModel(document.body.classList.contains('by-keys') || !pointer ? map.middle : pointer),
  hide: () => say(layers.toggle() ? 'map shown' : 'map hidden'),
  labels: () => !isSample && say(layers.toggleLabels() ? 'labels shown' : 'labels hidden'),
  digit: number => {
    const one = classes.all[number - 1];
    if (!one) say(`no class has the key ${number}`);
    else if (!tools.reclassSelected(one.id)) classes.choose(one.id);
  },
};

/** Say what was made: an added label with its number. */
function sayMade({entry, before}) {
  const old = new Set(before.labels.map(one => one.id));
  const added = session.state.labels.find(one => !old.has(one.id));
  const isAdd = entry.changes[0].op === 'add' && added;
  const isBack = {undo: 'undone', redo: 'made again'}[entry.path];
  const words = isBack ? `${isBack}: ${differenceWords(before, session.state)}` : isAdd ? `${added.geometry.type.toLowerCase()} ${added.id}: ${classes.nameOf(added.class)}`
    : entry.changes.map(one => changeWords(one, before)).join(', ');
  say(learning.revision === null ? words : `${words}; map follows`);
}

session.addEventListener('state', showTools);
session.addEventListener('made', ({detail}) => sayMade(detail));
session.addEventListener('pen', () => say(session.writer ? 'this tab labels' : 'another tab labels; this one watches'));
tools.addEventListener('change', showTools);
tools.addEventListener('asked', ({detail}) => askModel(detail));
learning.addEventListener('doubts', showAll);
for (const button of document.querySelectorAll('[data-tool]')) {
  button.addEventListener('click', () => tools.take(button.dataset.tool));
}
find('undo').addEventListener('click', () => act.undo());
find('end-polygon').addEventListener('click', () => tools.endPolygon());
find('leave-polygon').addEventListener('click', () => tools.cancel());
find('delete-label').addEventListener('click', () => tools.deleteSelected());
find('zoom-in').addEventListener('click', () => map.zoomBy(1));
find('zoom-out').addEventListener('click', () => map.zoomBy(-1));
find('zoom-all').addEventListener('click', () => map.showAll());
find('labels-list').addEventListener('toggle', showAll);
map.chart.on('pointermove', ({pixel, dragging}) => {
  if (dragging) return;
  pointer = map.placeAt(pixel);
  showPointer(pointer);
  showTip(tipOf(map.labelAt(pixel)), pixel);
});
map.chart.on('moveend', () => {
  showScale();
  followCross();
});
map.chart.on('loadstart', () => setBusy('tiles', true));
map.chart.on('loadend', () => setBusy('tiles', false));
learning.addEventListener('awaits', ({detail}) => setBusy('model', detail));
map.chart.on('movestart', () => showTip('', [0, 0]));
window.addEventListener('beforeunload', event => {
  if (session.queue.length) event.preventDefault(); // the browser asks whether to leave
});
offerImport(session);
new Finishing(session);
listenToKeys(map, act);
showTools();
showScale();
session.listen();
document.body.dataset.ready = 'yes';
Object.assign(window, {geotl: {session, map, tools, learning}}); // for the browser's console and the tests
