'use strict';
(async () => {
  const page = JSON.parse(document.getElementById('map-data').textContent);
  const find = id => document.getElementById(id);
  const {width: W, height: H, names, across, down, transform: T, words} = page;

  const unpacked = async text => {
    const bytes = Uint8Array.from(atob(text), c => c.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream('deflate'));
    return new Uint8Array(await new Response(stream).arrayBuffer());
  };
  const classes = await unpacked(page.classes), confidence = await unpacked(page.confidence);

  const sheet = () => Object.assign(document.createElement('canvas'), {width: W, height: H});
  const painted = (values, colours) => {
    const canvas = sheet(), context = canvas.getContext('2d');
    const image = context.createImageData(W, H), out = image.data;
    for (let i = 0; i < values.length; i++) {
      const colour = colours[values[i]];
      if (!colour) continue;
      out[4 * i] = colour[0]; out[4 * i + 1] = colour[1]; out[4 * i + 2] = colour[2];
      out[4 * i + 3] = 255;
    }
    context.putImageData(image, 0, 0);
    return canvas;
  };
  const picked = new Set();
  const palette = () => page.colours.map(
    (colour, k) => picked.size && !picked.has(k) ? [228, 232, 236] : colour);
  const layers = {classes: painted(classes, palette()),
                  confidence: painted(confidence, page.ramp), picture: null};
  const scene = find('scene'), handle = find('swipe');
  if (scene) {
    await scene.decode();
    layers.picture = scene;
  }

  // A pixel of the map is `zoom` wide on screen and zoom * tall high: true to the ground.
  const canvas = find('canvas'), context = canvas.getContext('2d'), here = find('here');
  const tall = down / across;
  let zoom = 1, left = 0, top = 0, sharp = 1, shown = 'classes', opacity = 1, spot = null;
  let swipe = .5;  // where the map begins: the scene lies left of it
  const size = () => [canvas.clientWidth, canvas.clientHeight];
  const least = () => { const [w, h] = size(); return Math.min(w / W, h / (H * tall)); };
  const fit = () => {
    const [w, h] = size();
    zoom = least();
    left = (W - w / zoom) / 2; top = (H - h / (zoom * tall)) / 2;
  };
  const clamp = () => {
    const [w, h] = size();
    zoom = Math.min(Math.max(zoom, least() * .8), Math.max(64, least() * 4));
    const keep = (at, length, seen) => seen >= length ? (length - seen) / 2
      : Math.min(Math.max(at, -seen / 4), length - seen * 3 / 4);
    left = keep(left, W, w / zoom); top = keep(top, H, h / (zoom * tall));
  };
  const place = layer => context.drawImage(
    layer, -left * zoom * sharp, -top * zoom * tall * sharp,
    W * zoom * sharp, H * zoom * tall * sharp);
  const between = (from, to, layer) => {
    context.save();
    context.beginPath();
    context.rect(from, 0, to - from, canvas.height);
    context.clip();
    place(layer);
    context.restore();
  };
  const draw = () => {
    const [w, h] = size();
    sharp = window.devicePixelRatio || 1;
    canvas.width = Math.round(w * sharp); canvas.height = Math.round(h * sharp);
    context.imageSmoothingEnabled = zoom < 1;
    const whole = shown === 'picture', edge = layers.picture ? Math.round(swipe * canvas.width) : 0;
    if (layers.picture) between(0, whole || opacity < 1 ? canvas.width : edge, layers.picture);
    context.globalAlpha = opacity;
    if (!whole) between(edge, canvas.width, layers[shown]);
    context.globalAlpha = 1;
    if (spot) {
      const x = (spot[0] - left) * zoom * sharp, y = (spot[1] - top) * zoom * tall * sharp;
      for (const [colour, line] of [['#fff', 4], ['#1d2733', 2]]) {
        context.strokeStyle = colour; context.lineWidth = line * sharp;
        context.beginPath();
        context.moveTo(x - 9 * sharp, y); context.lineTo(x + 9 * sharp, y);
        context.moveTo(x, y - 9 * sharp); context.lineTo(x, y + 9 * sharp);
        context.stroke();
      }
    }
    scale();
  };
  const scale = () => {
    if (!page.metric) { find('scale').hidden = true; return; }
    const most = 150 / zoom * across, power = 10 ** Math.floor(Math.log10(most));
    const metres = [5, 2, 1].map(n => n * power).find(n => n <= most);
    find('scale-name').textContent =
      metres >= 1000 ? `${(metres / 1000).toLocaleString(words.locale)} km` : `${(+metres.toPrecision(1)).toLocaleString(words.locale)} m`;
    find('scale-bar').style.width = `${metres / across * zoom}px`;
  };

  const decimal = (value, digits) => words.locale === 'en' ? value.toFixed(digits)
    : value.toLocaleString(words.locale, {minimumFractionDigits: digits,
      maximumFractionDigits: digits, useGrouping: false});
  const lonlat = (col, row) => {
    const grid = page.lattice;
    if (!grid) return '';
    const n = grid.length - 1;
    const x = Math.min(Math.max(col / W * n, 0), n - 1e-9);
    const y = Math.min(Math.max(row / H * n, 0), n - 1e-9);
    const i = Math.floor(y), j = Math.floor(x), v = y - i, u = x - j;
    const [lon, lat] = [0, 1].map(k =>
      (grid[i][j][k] * (1 - u) + grid[i][j + 1][k] * u) * (1 - v) +
      (grid[i + 1][j][k] * (1 - u) + grid[i + 1][j + 1][k] * u) * v);
    return ` · ${decimal(Math.abs(lat), 4)}° ${lat < 0 ? words.south : words.north}, ` +
      `${decimal(Math.abs(lon), 4)}° ${lon < 0 ? words.west : words.east}`;
  };
  const tell = (col, row) => {
    const c = Math.floor(col), r = Math.floor(row);
    here.replaceChildren();
    if (c < 0 || r < 0 || c >= W || r >= H) { here.textContent = words.beside; return; }
    const k = classes[r * W + c], sure = confidence[r * W + c];
    const name = document.createElement('b');
    name.textContent = k in names ? names[k] : words.unmapped;
    const x = T[0] * col + T[1] * row + T[2], y = T[3] * col + T[4] * row + T[5];
    const digits = Math.abs(T[0]) < 1 ? 5 : 0;
    here.append(name, (k in names ? `, ${words.confidence} ${sure} %` : '') +
      ` · x ${decimal(x, digits)}, y ${decimal(y, digits)}${lonlat(col, row)}`);
  };
  const under = event => {
    const box = canvas.getBoundingClientRect();
    return [left + (event.clientX - box.left) / zoom,
            top + (event.clientY - box.top) / (zoom * tall)];
  };
  const zoomed = (by, at) => {
    const before = zoom;
    zoom *= by; zoom = Math.min(Math.max(zoom, least() * .8), Math.max(64, least() * 4));
    left = at[0] - (at[0] - left) * before / zoom;
    top = at[1] - (at[1] - top) * before / zoom;
    clamp(); draw();
  };
  const middle = () => { const [w, h] = size();
    return [left + w / zoom / 2, top + h / (zoom * tall) / 2]; };
  const again = () => { clamp(); draw(); };

  const pointers = new Map();
  canvas.addEventListener('pointerdown', event => {
    canvas.setPointerCapture(event.pointerId);
    pointers.set(event.pointerId, event);
  });
  canvas.addEventListener('pointermove', event => {
    const last = pointers.get(event.pointerId);
    if (last && pointers.size === 1) {
      left -= (event.clientX - last.clientX) / zoom;
      top -= (event.clientY - last.clientY) / (zoom * tall);
      again();
    } else if (last && pointers.size === 2) {
      const other = [...pointers.values()].find(p => p.pointerId !== event.pointerId);
      const apart = p => Math.hypot(p.clientX - other.clientX, p.clientY - other.clientY) || 1;
      zoomed(apart(event) / apart(last), under(event));
    }
    if (last) pointers.set(event.pointerId, event);
    if (spot) { spot = null; draw(); }
    tell(...under(event));
  });
  for (const end of ['pointerup', 'pointercancel'])
    canvas.addEventListener(end, event => pointers.delete(event.pointerId));
  canvas.addEventListener('wheel', event => {
    event.preventDefault();
    zoomed(Math.exp(-event.deltaY * .0015), under(event));
  }, {passive: false});
  canvas.addEventListener('dblclick', event => zoomed(2, under(event)));
  canvas.addEventListener('keydown', event => {
    const steps = {ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1]};
    const [w, h] = size();
    if (event.key in steps) {
      const far = event.shiftKey ? 1 / zoom : w / zoom / 12;
      left += steps[event.key][0] * far; top += steps[event.key][1] * far;
    } else if (event.key === '+' || event.key === '=') zoomed(1.5, middle());
    else if (event.key === '-') zoomed(1 / 1.5, middle());
    else if (event.key === '0' || event.key === 'Home') fit();
    else return;
    event.preventDefault();
    clamp(); spot = middle(); draw(); tell(...spot);
  });
  find('in').addEventListener('click', () => zoomed(1.5, middle()));
  find('out').addEventListener('click', () => zoomed(1 / 1.5, middle()));
  find('all').addEventListener('click', () => { fit(); draw(); });
  for (const radio of document.querySelectorAll('input[name=layer]'))
    radio.addEventListener('change', () => {
      shown = radio.value;
      if (handle) {
        handle.hidden = shown === 'picture';
        find('side').textContent = radio.parentElement.textContent;
      }
      draw();
    });
  const swiped = to => {
    swipe = Math.min(Math.max(to, 0), 1);
    handle.style.left = `${100 * swipe}%`;
    handle.setAttribute('aria-valuenow', String(Math.round(100 * swipe)));
    handle.setAttribute('aria-valuetext', `${words.swipe} ${Math.round(100 * swipe)} %`);
    draw();
  };
  if (handle) {
    handle.addEventListener('pointerdown', event => {
      handle.setPointerCapture(event.pointerId);
      handle.focus();
      event.preventDefault();
    });
    handle.addEventListener('pointermove', event => {
      const box = canvas.getBoundingClientRect();
      if (handle.hasPointerCapture(event.pointerId)) swiped((event.clientX - box.left) / box.width);
    });
    handle.addEventListener('keydown', event => {
      const far = {ArrowLeft: -.02, ArrowDown: -.02, ArrowRight: .02, ArrowUp: .02,
                   PageDown: -.1, PageUp: .1, Home: -1, End: 1}[event.key];
      if (far === undefined) return;
      event.preventDefault();
      swiped(swipe + far);
    });
  }
  find('opacity').addEventListener('input', event => {
    opacity = event.target.value / 100; draw(); });
  for (const button of document.querySelectorAll('.pick'))
    button.addEventListener('click', () => {
      const k = Number(button.dataset.value);
      picked.has(k) ? picked.delete(k) : picked.add(k);
      button.setAttribute('aria-pressed', String(picked.has(k)));
      layers.classes = painted(classes, palette());
      draw();
    });

  // map.html#at=COLUMN,ROW,ZOOM opens at that pixel.
  const opened = () => {
    const at = /^#at=([\d.]+),([\d.]+)(?:,([\d.]+))?$/.exec(location.hash);
    if (!at) return;
    const [w, h] = size();
    zoom = Number(at[3] || 8);
    left = Number(at[1]) - w / zoom / 2; top = Number(at[2]) - h / (zoom * tall) / 2;
    spot = [Number(at[1]), Number(at[2])];
    draw(); tell(...spot);
  };
  document.body.classList.add('ready');
  find('needle').style.transform = `rotate(${page.north}deg)`;
  find('north').hidden = !page.metric;
  fit(); draw(); opened();
  addEventListener('hashchange', opened);
  new ResizeObserver(again).observe(canvas);
  document.body.dataset.viewer = 'ready';
})().catch(error => { document.body.dataset.viewer = `still: ${error.message}`; });
