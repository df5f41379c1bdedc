// Numbers and places in words. Pure: numbers in, texts out.

/** A share in percent; below 10 % and above 99 % with one decimal, since there it matters. */
export const percent = share => {
  const value = 100 * share;
  return Number.isFinite(value) ? (value > 99 && value < 100 ? value.toFixed(1) : value.toFixed(0)) : '–';
};

const MODEL = {quick: 'the quick model', full: 'all members'};

/** "82 % [74, 90]"; more: what the brackets are. */
const interval = ({value, low, high}, more = '') =>
  Number.isFinite(low) ? `${percent(value)} % [${percent(low)}, ${percent(high)}${more}]` : `${percent(value)} %`;

/** "1 label", "12 labels". */
export const count = (number, noun, many = `${noun}s`) =>
  `${number.toLocaleString('en')} ${number === 1 ? noun : many}`;

/** A length on the ground: "250 m", "1.5 km". */
export const metres = length => {
  if (length < 1) return `${+(100 * length).toPrecision(3)} cm`;
  return length < 1000 ? `${+length.toPrecision(3)} m` : `${+(length / 1000).toPrecision(3)} km`;
};

/** Where a label stands: of a polygon, its middle. */
export function middle(geometry) {
  if (geometry.type === 'Point') return geometry.coordinates;
  const ring = geometry.coordinates[0];
  const corners = ring.slice(0, -1);
  return [0, 1].map(axis => corners.reduce((sum, one) => sum + one[axis], 0) / corners.length);
}

/** "column 12, row 40": of the pixel that holds a place, counted from 0 as in the files. */
export const place = ([x, y]) => `column ${Math.floor(x)}, row ${Math.floor(y)}`;

/** A place in the scene's reference system: "easting 350123, northing 4500210". */
export function mapPlace([x, y], {transform: [a, b, c, d, e, f], geographic}) {
  const digits = Math.max(0, 1 + Math.ceil(-Math.log10(Math.hypot(a, d))));
  const [across, up] = [a * x + b * y + c, d * x + e * y + f].map(value => value.toFixed(digits));
  return geographic ? `longitude ${across}, latitude ${up}` : `easting ${across}, northing ${up}`;
}

/** The largest of 1, 2, 5, 10, 20, ... not above a value. */
export function roundBelow(value) {
  const power = 10 ** Math.floor(Math.log10(value));
  return power * [5, 2, 1].find(step => step * power <= value * (1 + 1e-9));
}

/** The two sentences on accuracy, blocked first. */
export function accuracySentence({blocked, random, stage}) {
  const parts = [];
  const of = MODEL[stage] ? ` by ${MODEL[stage]}` : '';
  if (blocked) parts.push(`${interval(blocked, ': 95 % interval')} of places correct${of}, blocked: tested in other blocks of ground than trained in`);
  if (random) parts.push(`${interval(random)} if test places may lie beside training ones`);
  return parts.length ? `${parts.join('; ')}.` : '';
}

const BLOCKS = { // of features, as the names of members have them
  bands: 'bands: the pixel’s own values', wide: 'wide: windows around it', deep: 'deep: a network’s features',
};

/** "Members: discriminant, bands (bands: the pixel’s own values)." of shares by name, as a report names them. */
export function memberWords(shares) {
  const names = Object.entries(shares ?? {}).filter(([, share]) => share > 0).map(([name]) => name);
  if (!names.length) return '';
  const meant = Object.entries(BLOCKS).filter(([block]) => names.some(one => one.split(/\W+/).includes(block)));
  return ` Members: ${names.join('; ')}${meant.length ? ` (${meant.map(([, words]) => words).join('; ')})` : ''}.`;
}

/** "in 12 blocks of 640 m" */
export const blocksWords = ({blocks, block_m: side}) => (blocks ? ` in ${count(blocks, 'block')}${side ? ` of ${metres(side)}` : ''}` : '');

/** Which points of the curve were measured in blocks of another size than those now; '' for none. */
export function otherBlocksWords({labels, block_m: side}, points) {
  const isOther = one => one.block_m && one.labels !== labels && Math.abs(one.block_m / side - 1) > 0.1;
  const others = side ? points.filter(isOther) : [];
  if (!others.length) return '';
  const sides = others.map(one => one.block_m);
  const [least, most] = [Math.min(...sides), Math.max(...sides)].map(metres);
  const before = least === most ? least : `${least} to ${most}`;
  const which = others.length === 1 ? `the point at ${count(others[0].labels, 'label')} was`
    : `${others.length} points, from ${others[0].labels} to ${count(others.at(-1).labels, 'label')}, were`;
  return `Blocks of ${metres(side)} now, since their size follows the labels; in the curve ${which} measured with blocks of ${before}.`;
}

/** What a change does, for the live region and where it could not be made. */
export function changeWords(change, {classes, labels, mode}) {
  const named = id => classes.find(one => one.id === id)?.name ?? 'class';
  const label = labels.find(one => one.id === change.id);
  const kind = geometry => (geometry?.type === 'Polygon' ? 'polygon' : 'point');
  const where = geometry => (geometry ? ` at ${place(middle(geometry))}` : '');
  const words = {
    add: () => `${kind(change.geometry)}${where(change.geometry)}: ${named(change.class)}`,
    move: () => `${kind(change.geometry)} moved to ${place(middle(change.geometry))}`,
    reclass: () => mode === 'sample' ? `point ${change.id}: ${named(change.class)}`
      : `${kind(label?.geometry)}${where(label?.geometry)} is now ${named(change.class)}`,
    delete: () => `${kind(label?.geometry)}${where(label?.geometry)} deleted`,
    add_class: () => `class ${change.name} added`,
    edit_class: () => `class ${named(change.id)} changed`,
    merge_class: () => `class ${named(change.id)} merged into ${named(change.into)}`,
    delete_class: () => `class ${named(change.id)} deleted`,
    undo: () => 'undo',
    redo: () => 'redo',
  };
  return words[change.op]();
}

/** What could not be made, as the beginning of a sentence; its reason follows. */
export function refusalWords(change, {classes, labels}) {
  const named = id => classes.find(one => one.id === id)?.name ?? 'The class';
  const geometry = labels.find(one => one.id === change.id)?.geometry ?? change.geometry;
  const kind = geometry ? `The ${geometry.type.toLowerCase()} at ${place(middle(geometry))}` : 'The label';
  const words = {
    add: () => `${kind} was not added`,
    move: () => `${kind} was not moved`,
    reclass: () => `${kind} did not become ${named(change.class)}`,
    delete: () => `${kind} was not deleted`,
    add_class: () => `${change.name} was not added`,
    edit_class: () => `${named(change.id)} was not changed`,
    merge_class: () => `${named(change.id)} was not merged into ${named(change.into)}`,
    delete_class: () => `${named(change.id)} was not deleted`,
    undo: () => 'Nothing was undone',
    redo: () => 'Nothing was made again',
  };
  return words[change.op]();
}

/** What differs between two states, such as before and after an undo. */
export function differenceWords(before, after) {
  const labelWords = (one, {classes}) => `${one.geometry.type.toLowerCase()} at ${place(middle(one.geometry))} (${classes.find(two => two.id === one.class)?.name})`;
  const compare = (key, noun, many, words) => {
    const [old, now] = [before, after].map(state => new Map(state[key].map(one => [one.id, one])));
    const said = (ones, state, verb) => (ones.length
      ? [`${ones.length === 1 ? words(ones[0], state) : count(ones.length, noun, many)} ${verb}`] : []);
    return [
      ...said(before[key].filter(one => !now.has(one.id)), before, 'removed'),
      ...said(after[key].filter(one => !old.has(one.id)), after, 'added'),
      ...said(after[key].filter(one => old.has(one.id) && JSON.stringify(one) !== JSON.stringify(old.get(one.id))), after, 'changed'),
    ];
  };
  return [...compare('classes', 'class', 'classes', one => `class ${one.name}`),
    ...compare('labels', 'label', 'labels', labelWords)].join(', ');
}
