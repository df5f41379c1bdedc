// How labels and places look on the map: seen on any scene, and distinct without colour.
import {Circle, Fill, Point, Stroke, Style, Text} from './ol.js';

const DARK = '#14191f';
const LIGHT = '#ffffff';
const FONT = '600 11px system-ui, "Liberation Sans", "DejaVu Sans", sans-serif';

/** Black or white, whichever is read more easily on a colour #rrggbb. */
function inkOn(colour) {
  const [red, green, blue] = [1, 3, 5].map(k => parseInt(colour.slice(k, k + 2), 16) / 255)
    .map(value => (value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4));
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue > 0.18 ? DARK : LIGHT;
}

const ring = (radius, colour, width) => new Style({
  image: new Circle({radius, stroke: new Stroke({color: colour, width})}),
});

const atMiddle = feature => {
  const geometry = feature.getGeometry();
  return geometry.getType() === 'Point' ? geometry : geometry.getInteriorPoint();
};

function dot({colour, key, waiting}) {
  return new Style({
    geometry: atMiddle, zIndex: 2,
    image: new Circle({
      radius: 7, fill: new Fill({color: waiting ? `${colour}99` : colour}),
      stroke: new Stroke({color: LIGHT, width: 2}),
    }),
    text: new Text({text: key, font: FONT, fill: new Fill({color: inkOn(colour)}), offsetY: 1}),
  });
}

const smallDot = ({colour}) => new Style({
  geometry: atMiddle, zIndex: 2,
  image: new Circle({radius: 3.5, fill: new Fill({color: colour}), stroke: new Stroke({color: DARK, width: 1})}),
});

function outline({colour}) {
  const line = (stroke, width) => new Style({stroke: new Stroke({color: stroke, width})});
  const inside = new Style({fill: new Fill({color: `${colour}30`})});
  return [inside, line(DARK, 5), line(LIGHT, 3.5), line(colour, 2)];
}

const doubtMark = () => new Style({
  geometry: atMiddle, zIndex: 3,
  text: new Text({
    text: '?', font: '700 12px system-ui, "Liberation Sans", sans-serif', offsetX: 12, offsetY: -10,
    fill: new Fill({color: DARK}), backgroundFill: new Fill({color: '#ffd166'}),
    backgroundStroke: new Stroke({color: DARK, width: 1}), padding: [1, 3, 0, 4],
  }),
});

const around = (radius, colour, width) => {
  const style = ring(radius, colour, width);
  style.setGeometry(atMiddle);
  return style;
};

function labelStyles(look) {
  return [
    ...(look.polygon ? outline(look) : []),
    ...(look.small ? [smallDot(look)] : [around(8.5, DARK, 1.5), dot(look)]),
    ...(look.selected ? [around(12, DARK, 4), around(12, '#7cc4ff', 2.5)] : []),
    ...(look.doubtful ? [doubtMark()] : []),
  ];
}

const made = new Map();

/** Styles of a label; look: {colour, key, polygon, selected, doubtful, waiting, small}. */
export function styleOfLabel(look) {
  const name = JSON.stringify(look);
  if (!made.has(name)) made.set(name, labelStyles(look));
  return made.get(name);
}

/** Styles of a suggested place: a frame with its number beside it. */
export function styleOfPlace(number, isVisited) {
  const frame = (radius, colour, width) => new Style({
    image: new Circle({radius, stroke: new Stroke({color: colour, width, lineDash: [4, 3]})}),
  });
  return [ring(11, DARK, 3.5), frame(11, isVisited ? '#9aa6b2' : LIGHT, 2.5), new Style({
    text: new Text({
      text: String(number), font: FONT, offsetX: 19, fill: new Fill({color: DARK}),
      backgroundFill: new Fill({color: isVisited ? '#c3ccd4' : LIGHT}),
      backgroundStroke: new Stroke({color: DARK, width: 1}), padding: [1, 3, 0, 4],
    }),
  })];
}

const handle = (radius, geometry) => new Style({
  geometry, image: new Circle({radius, fill: new Fill({color: LIGHT}), stroke: new Stroke({color: DARK, width: 1.5})}),
});

const SKETCH = [
  new Style({stroke: new Stroke({color: DARK, width: 4}), fill: new Fill({color: '#ffffff30'})}),
  new Style({stroke: new Stroke({color: LIGHT, width: 2, lineDash: [6, 4]})}),
];

/** Corners of a sketch: the ring's last place is its first, the one before the pointer's, once that has moved. */
export const cornersOf = ring => ring.slice(0, Math.max(1, ring.length - 2));

/** Styles of what is being drawn: the polygon with its corners, its line, the pointer. */
export function sketchStyles(feature) {
  const geometry = feature.getGeometry();
  if (geometry.getType() === 'Point') return [handle(4, geometry)];
  const corners = geometry.getType() === 'Polygon' ? cornersOf(geometry.getCoordinates()[0]) : [];
  return [...SKETCH, ...corners.map(one => handle(5, new Point(one)))];
}
