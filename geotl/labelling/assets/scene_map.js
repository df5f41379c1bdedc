// The scene, the map over it and the labels on both, by OpenLayers in pixels of the scene.
//
// OpenLayers counts upwards, a scene's rows downwards: its y is minus the row. Only this module
// and the tools know.
import {
  DragPan, Feature, Map as Chart, MouseWheelZoom, PinchZoom, Point, Polygon, Projection, TileGrid, TileImage,
  TileLayer, VectorLayer, VectorSource, View,
} from './ol.js';
import {styleOfLabel, styleOfPlace} from './styles.js';

const TILE = 256;
const FREE = [52, 58, 46, 12]; // screen pixels above, right, below and left, where tools lie over the map
const MOST_ZOOM = 16; // screen pixels per pixel of the scene
const MOST_NUMBERED = 100; // labels in view; of more, each is a small dot
export const LAYERS = {classes: 'Classes', confidence: 'Confidence', applicability: 'Applicability'};

const upside = ([x, y]) => [x, -y];

/** A geometry of GeoJSON in pixels as one of OpenLayers, and back. */
export const toMap = ({type, coordinates}) => (type === 'Point'
  ? new Point(upside(coordinates)) : new Polygon(coordinates.map(ring => ring.map(upside))));

const rounded = ([x, y]) => [Math.round(100 * x) / 100, Math.round(-100 * y) / 100];

export const fromMap = geometry => (geometry.getType() === 'Point'
  ? {type: 'Point', coordinates: rounded(geometry.getCoordinates())}
  : {type: 'Polygon', coordinates: geometry.getCoordinates().map(ring => ring.map(rounded))});

/** Scene pixels per tile pixel at each level, from one tile for the whole scene to 1. */
function levels(width, height) {
  const count = Math.max(0, Math.ceil(Math.log2(Math.max(width, height) / TILE)));
  return Array.from({length: count + 1}, (_, k) => 2 ** (count - k));
}

export class SceneMap {
  #shownSmall = false;

  constructor(target, {width, height}) {
    this.size = [width, height];
    this.extent = [0, -height, width, 0];
    this.projection = new Projection({code: 'scene', units: 'pixels', extent: this.extent});
    this.grid = new TileGrid({
      extent: this.extent, origin: [0, 0], resolutions: levels(width, height), tileSize: TILE,
    });
    this.scene = this.#tileLayer();
    this.layers = Object.fromEntries(Object.keys(LAYERS).map(name => [name, this.#tileLayer(name)]));
    this.places = new VectorLayer({source: new VectorSource()});
    this.labels = new VectorLayer({source: new VectorSource(), updateWhileInteracting: true});
    this.chart = this.#chart(target);
    this.chart.on('moveend', () => {
      if (this.isCrowded !== this.#shownSmall) this.#styleLabels();
    });
    this.showAll();
  }

  /** Show three bands of the scene; cut: percent of the values beyond black and beyond white. */
  showScene(bands, cut) {
    const name = bands.join('-');
    this.#setTiles(this.scene, `${name} ${cut}`, (each, x, y) => `scene/${name}/${each}/${x}/${y}.png?cut=${cut}`);
  }

  /** Show the maps of a model; the older ones stay until the new are there. Of null, show none. */
  showVersion(version) {
    for (const [name, layer] of Object.entries(this.layers)) {
      if (version === null) layer.getSource().setTileUrlFunction(() => undefined, `no ${name}`);
      else this.#setTiles(layer, `${name} ${version}`, (each, x, y) => `map/${name}/${version}/${each}/${x}/${y}.png`);
    }
  }

  /** Show a layer of the map, or hide it. */
  setLayer(name, {visible, opacity}) {
    this.layers[name].setVisible(visible);
    this.layers[name].setOpacity(opacity);
  }

  /** Show labels: an array of {id, geometry, look}. */
  showLabels(labels) {
    this.labels.getSource().clear(true);
    this.labels.getSource().addFeatures(labels.map(({id, geometry, look}) => {
      const feature = new Feature(toMap(geometry));
      feature.setId(id);
      feature.set('look', {...look, polygon: geometry.type === 'Polygon'}, true);
      return feature;
    }));
    this.#styleLabels();
  }

  #styleLabels() {
    const small = this.isCrowded;
    this.labels.getSource().forEachFeature(one => { one.setStyle(styleOfLabel({...one.get('look'), small})); });
    this.#shownSmall = small;
  }

  /** Whether so many labels are in view that their keys would hide the scene. */
  get isCrowded() {
    const extent = this.chart.getView().calculateExtent();
    return this.labels.getSource().getFeaturesInExtent(extent).length > MOST_NUMBERED;
  }

  /** Show numbered places: an array of {number, col, row, visited}. */
  showPlaces(places) {
    this.places.getSource().clear(true);
    this.places.getSource().addFeatures(places.map(({number, col, row, visited}) => {
      const feature = new Feature(new Point([col, -row]));
      feature.setStyle(styleOfPlace(number, visited));
      return feature;
    }));
  }

  /** The place under the cross, as column and row. */
  get middle() {
    return upside(this.chart.getView().getCenter());
  }

  /** Scene pixels per screen pixel. */
  get resolution() {
    return this.chart.getView().getResolution();
  }

  contains([x, y]) {
    return x >= 0 && y >= 0 && x <= this.size[0] && y <= this.size[1];
  }

  /** The place at a pixel of the screen, as column and row. */
  placeAt(pixel) {
    return upside(this.chart.getCoordinateFromPixel(pixel));
  }

  /** The pixel of the screen where a place stands, counted from the map's corner. */
  pixelOf(place) {
    return this.chart.getPixelFromCoordinate(upside(place));
  }

  /** Id of the label at a pixel of the screen, or undefined. */
  labelAt(pixel, tolerance = 6) {
    const found = this.chart.forEachFeatureAtPixel(pixel, feature => feature.getId(), {
      hitTolerance: tolerance, layerFilter: layer => layer === this.labels,
    });
    return found;
  }

  featureOf(id) {
    return this.labels.getSource().getFeatureById(id);
  }

  showAll() {
    this.chart.getView().fit(this.extent, {padding: FREE});
  }

  zoomBy(steps) {
    const view = this.chart.getView();
    view.setResolution(view.getConstrainedResolution(view.getResolution() / 2 ** steps));
  }

  /** Move the view by screen pixels, or by pixels of the scene. */
  pan(right, down, inScenePixels = false) {
    const each = inScenePixels ? 1 : this.resolution;
    const [x, y] = this.chart.getView().getCenter();
    this.chart.getView().setCenter([x + right * each, y - down * each]);
  }

  /** Bring a place under the cross, close enough to see its pixels. */
  goTo(place, resolution = 0.5) {
    const view = this.chart.getView();
    if (view.getResolution() > resolution) view.setResolution(view.getConstrainedResolution(resolution));
    view.setCenter(upside(place));
  }

  #setTiles(layer, key, url) {
    layer.getSource().setTileUrlFunction(
      ([z, x, y]) => url(this.grid.getResolution(z), x, y), key);
  }

  #tileLayer(name) {
    const source = new TileImage({
      projection: this.projection, tileGrid: this.grid, tileUrlFunction: () => undefined, transition: 0,
      wrapX: false, interpolate: !name, // classes have no colours between them
    });
    const layer = new TileLayer({source, visible: !name, className: `layer-${name ?? 'scene'}`, cacheSize: 256});
    // Enlarged beyond its own pixels, the scene shows these as squares.
    layer.on('prerender', ({context, frameState}) => {
      context.imageSmoothingEnabled = !name && frameState.viewState.resolution >= 1;
    });
    return layer;
  }

  #chart(target) {
    const [width, height] = this.size;
    return new Chart({
      target, controls: [],
      interactions: [new DragPan(), new MouseWheelZoom(), new PinchZoom()],
      layers: [this.scene, ...Object.values(this.layers), this.places, this.labels],
      view: new View({
        projection: this.projection, extent: this.extent, constrainOnlyCenter: true, smoothExtentConstraint: false,
        enableRotation: false, center: [width / 2, -height / 2], resolution: 1,
        minResolution: 1 / MOST_ZOOM, maxResolution: 4 * levels(width, height)[0], // a power of two, as all steps
        smoothResolutionConstraint: false,
      }),
    });
  }
}
