// Bundles OpenLayers into one minified file and writes the licences of all that is in it.
// Usage: node build.js FOLDER, beside node_modules; FOLDER gets ol.js, ol.css and the licences.
import {readdirSync, readFileSync, writeFileSync} from 'node:fs';
import {join} from 'node:path';
import {build} from 'esbuild';

const folder = process.argv[2];
const about = name => JSON.parse(readFileSync(join('node_modules', name, 'package.json'), 'utf8'));

const licence = name => {
  const file = readdirSync(join('node_modules', name)).find(one => /^licen[cs]e/i.test(one));
  const text = file ? readFileSync(join('node_modules', name, file), 'utf8').trim() : '';
  const {version, license} = about(name);
  return `${name} ${version} (${license})\n\n${text}\n`;
};

const made = await build({
  entryPoints: ['openlayers.js'], bundle: true, minify: true, format: 'esm', target: 'es2022',
  charset: 'ascii', legalComments: 'none', metafile: true, outfile: join(folder, 'ol.js'),
  banner: {js: `// OpenLayers ${about('ol').version}; licences in OPENLAYERS-LICENSE.txt`},
});
const inside = Object.entries(Object.values(made.metafile.outputs)[0].inputs)
  .filter(([, {bytesInOutput}]) => bytesInOutput > 0)
  .map(([path]) => /node_modules\/((?:@[^/]+\/)?[^/]+)\//.exec(path)?.[1]);
const packages = [...new Set(inside.filter(Boolean))].sort();
writeFileSync(join(folder, 'OPENLAYERS-LICENSE.txt'),
  `ol.js and ol.css hold these packages.\n\n${packages.map(licence).join(`\n${'-'.repeat(72)}\n\n`)}`);
writeFileSync(join(folder, 'ol.css'),
  `/* OpenLayers ${about('ol').version}; licence in OPENLAYERS-LICENSE.txt */\n${
    readFileSync('node_modules/ol/ol.css', 'utf8').trim()}\n`);
