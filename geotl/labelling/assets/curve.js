// The accuracy of this project against its number of labels, as a small picture of lines.
import {draw} from './dom.js';
import {count, percent} from './words.js';

const [WIDTH, HEIGHT] = [320, 150];
const [LEFT, RIGHT, TOP, BOTTOM] = [40, 10, 8, 30];

/** Steps of labels for the axis: few, round. */
function ticks(most) {
  const step = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000].find(one => most / one <= 5) ?? most;
  return Array.from({length: Math.floor(most / step) + 1}, (_, k) => k * step);
}

/** The picture; points: two or more of [{labels, value, low, high}] with shares in 0..1. */
export function curvePicture(points) {
  const most = Math.max(...points.map(one => one.labels), 1);
  const across = labels => LEFT + (WIDTH - LEFT - RIGHT) * labels / most;
  const up = share => HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * share;
  const picture = draw('svg', {
    viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: 'img', 'aria-label': curveWords(points), class: 'curve'});
  picture.append(...shareAxis(up), ...labelAxis(ticks(most), across), ...line(points, across, up));
  return picture;
}

/** "Blocked accuracy from 40 % at 6 labels to 82 % at 30 labels." */
export function curveWords(points) {
  const [first, last] = [points[0], points.at(-1)];
  return `Blocked accuracy from ${percent(first.value)} % at ${count(first.labels, 'label')} `
    + `to ${percent(last.value)} % at ${count(last.labels, 'label')}.`;
}

const shareAxis = up => [0, 0.25, 0.5, 0.75, 1].flatMap(share => [
  draw('line', {x1: LEFT, x2: WIDTH - RIGHT, y1: up(share), y2: up(share), class: 'grid'}),
  draw('text', {x: LEFT - 5, y: up(share) + 4, 'text-anchor': 'end'}, `${100 * share} %`),
]);

const labelAxis = (steps, across) => [
  ...steps.map(labels => draw('text', {x: across(labels), y: HEIGHT - BOTTOM + 14, 'text-anchor': 'middle'}, `${labels}`)),
  draw('text', {x: WIDTH - RIGHT, y: HEIGHT - 3, 'text-anchor': 'end'}, 'labels'),
];

const line = (points, across, up) => [
  ...points.filter(one => Number.isFinite(one.low)).map(one => draw('line', {
    x1: across(one.labels), x2: across(one.labels), y1: up(one.low), y2: up(one.high), class: 'whisker'})),
  draw('polyline', {points: points.map(one => `${across(one.labels)},${up(one.value)}`).join(' '), class: 'line'}),
  ...points.map(one => draw('circle', {cx: across(one.labels), cy: up(one.value), r: 2.8, class: 'dot'})),
];
