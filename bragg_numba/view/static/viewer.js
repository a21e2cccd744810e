"use strict";
// The page: which frame and layer are shown, how they lie on the screen, and what stands on top of them.

const element = id => document.getElementById(id);
const LATTICE_COLOURS = ["#3fd8e8", "#ffd23f", "#7bd65a", "#ff8ad8", "#b59cff", "#ff9b54"];

/** Pixels of the screen for one of the frame from which on values are written into pixels. */
const WRITTEN = 38;
/** Tiles that are kept, and spots that are drawn at once. */
const MOST_TILES = 500, MOST_DRAWN = 4000;

class Viewer {
  constructor(store, scene) {
    this.store = store;
    this.scene = scene;
    this.canvas = element("image");
    this.frame = scene.start;
    this.layer = scene.layers[0];
    this.view = { x: scene.width / 2, y: scene.height / 2, zoom: 1 };
    this.tiles = new Map();
    this.wanted = [];
    this.asked = 0;
    this.known = new Map();
    this.cursor = null;
    this.percentile = null; // null: the one that suits each frame
    this.typed = {};
    this.marked = null;
  }

  async start() {
    this.listen();
    new ResizeObserver(() => this.resize()).observe(this.canvas);
    this.resize();
    await this.show(this.frame);
    this.fit();
  }

  // --- which frame

  /** Show a frame, and maybe another layer of it. */
  async show(frame, layer = this.layer) {
    const turn = this.turn = (this.turn ?? 0) + 1;
    this.frame = frame;
    this.layer = layer;
    element("frame").value = frame;
    element("slide").value = this.scene.frames ? this.scene.frames.indexOf(frame) : frame;
    element("layer").value = layer.name;
    element("unit").textContent = layer.unit;
    try {
      const [about, numbers] = await Promise.all([
        this.json(`frame/${frame}`), this.json(`numbers/${frame}/${layer.name}`)]);
      if (turn !== this.turn) return;
      this.about = about;
      this.numbers = numbers;
      this.say("");
    } catch (error) {
      if (turn === this.turn) this.say(error.message);
      return;
    }
    this.arrange();
    this.setLook();
    this.tell();
    this.draw();
    this.readOut();
    this.loadSpots(turn);
    this.loadProfile(turn);
  }

  step(by) {
    const { frames, total } = this.scene;
    const at = (frames ? frames.indexOf(this.frame) : this.frame) + by;
    if (at >= 0 && at < (frames ? frames.length : total)) this.show(frames ? frames[at] : at);
  }

  async json(name) {
    if (!this.known.has(name)) {
      if (this.known.size > 300) this.known.clear();
      this.known.set(name, this.store.json(name));
    }
    try {
      return await this.known.get(name);
    } catch (error) {
      this.known.delete(name);
      throw error;
    }
  }

  async loadSpots(turn) {
    this.spots = null;
    element("count").textContent = "";
    if (!element("spots").checked) return this.draw();
    element("count").textContent = "…";
    try {
      const name = `spots/${this.frame}`;
      if (!this.known.has(name)) this.known.set(name, this.store.numbers(name, "float32"));
      const values = await this.known.get(name), n = values.length / SPOT_COLUMNS.length;
      if (turn !== this.turn) return;
      this.spots = { n };
      SPOT_COLUMNS.forEach((column, i) => { this.spots[column] = values.subarray(i * n, (i + 1) * n); });
      element("count").textContent = `(${n})`;
      this.draw();
      this.readOut();
    } catch (error) {
      if (turn === this.turn) this.say(error.message);
    }
  }

  async loadProfile(turn) {
    try {
      const profile = await this.json(`profile/${this.frame}/${this.layer.name}`);
      if (turn === this.turn) this.mark = drawProfile(element("profile"), profile, this.layer.unit);
    } catch (error) {
      if (turn === this.turn) this.say(error.message);
    }
  }

  /** Show a sentence about what went wrong; nothing where it is empty. */
  say(text) {
    element("message").textContent = text;
    element("message").hidden = !text;
  }

  /** The table about the frame. */
  tell() {
    const rows = this.about.facts.map(fact => {
      const row = document.createElement("tr");
      for (const text of fact) row.insertCell().textContent = text;
      return row;
    });
    const { max, sum, pixels, lit } = this.numbers, unit = this.layer.unit;
    for (const [name, value, of] of [["brightest pixel", short(max), unit], ["sum of this layer", short(sum), unit],
      ["pixels above 0", `${lit} of ${pixels}`, ""]]) {
      const row = document.createElement("tr");
      for (const text of [name, value, of]) row.insertCell().textContent = text;
      rows.push(row);
    }
    element("facts").tBodies[0].replaceChildren(...rows);
  }

  // --- contrast

  get whole() { return !this.layer.type.startsWith("float"); }

  /** Take the contrast from the controls and from the frame's own numbers. */
  setLook() {
    const { percentiles } = this.numbers, scale = element("scale").value;
    element("percentile").max = percentiles.length - 1;
    if (this.percentile === null) element("percentile").value = percentiles.indexOf(suitingPercentile(this.numbers));
    const percentile = percentiles[element("percentile").value];
    element("percent").textContent = `${percentile} %`;
    const limits = { ...limitsOf(this.numbers, scale, percentile, this.whole), ...this.typed };
    if (scale === "log" && !(limits.low > 0)) limits.low = Math.max(limits.high / 1000, 1e-30);
    if (!(limits.high > limits.low)) limits.high = limits.low * 1.001 + (limits.low ? 0 : 1);
    for (const end of ["low", "high"]) {
      if (document.activeElement !== element(end)) element(end).value = Number(limits[end].toPrecision(4));
    }
    this.look = { scale, ...limits, colours: element("colours").value, mask: element("mask").checked };
    this.look.key = JSON.stringify(this.look);
    drawHistogram(element("histogram"), this.numbers.histogram, this.layer.unit, this.look);
    this.draw();
  }

  // --- how the frame lies on the screen

  arrange() {
    const { width, height } = this.scene;
    const assembled = element("assembled").checked && this.about.panels.length > 1;
    this.sheets = sheetsOf(this.about, width, height, assembled);
    for (const sheet of this.sheets) sheet.back = inverse(sheet.matrix);
    const corners = this.sheets.flatMap(s => [[0, 0], [1, 0], [0, 1], [1, 1]].map(([x, y]) =>
      apply(s.matrix, s.column + x * s.width, s.row + y * s.height)));
    const xs = corners.map(c => c[0]), ys = corners.map(c => c[1]);
    this.extent = [Math.min(...xs), Math.min(...ys), Math.max(...xs), Math.max(...ys)];
  }

  resize() {
    this.ratio = window.devicePixelRatio || 1;
    this.canvas.width = Math.max(1, Math.round(this.canvas.clientWidth * this.ratio));
    this.canvas.height = Math.max(1, Math.round(this.canvas.clientHeight * this.ratio));
    this.draw();
  }

  fit() {
    if (!this.extent) return;
    const [left, top, right, bottom] = this.extent;
    const zoom = 0.98 * Math.min(this.canvas.clientWidth / (right - left), this.canvas.clientHeight / (bottom - top));
    this.view = { x: (left + right) / 2, y: (top + bottom) / 2, zoom };
    this.draw();
  }

  /** Show a place of the frame in the middle, `zoom` pixels of the screen for one of the frame. */
  lookAt(fast, slow, zoom) {
    const sheet = this.sheetOf(fast, slow);
    const [x, y] = sheet ? apply(sheet.matrix, fast, slow) : [fast, slow];
    this.view = { x, y, zoom };
    this.draw();
  }

  /** Zoom by a factor about a place of the canvas. */
  zoomBy(factor, x = this.canvas.clientWidth / 2, y = this.canvas.clientHeight / 2) {
    const [wx, wy] = this.world(x, y), least = 0.2 * Math.min(this.canvas.clientWidth, this.canvas.clientHeight)
      / Math.max(this.scene.width, this.scene.height);
    const zoom = Math.min(Math.max(this.view.zoom * factor, least), 200);
    const part = this.view.zoom / zoom;
    this.view = { x: wx + (this.view.x - wx) * part, y: wy + (this.view.y - wy) * part, zoom };
    this.draw();
    this.readOut();
  }

  world(x, y) {
    const { clientWidth, clientHeight } = this.canvas, v = this.view;
    return [v.x + (x - clientWidth / 2) / v.zoom, v.y + (y - clientHeight / 2) / v.zoom];
  }

  /** Place on the canvas of a place of the frame; null where it is on no sheet. */
  screen(fast, slow, sheet = this.sheetOf(fast, slow)) {
    if (!sheet) return null;
    const [x, y] = apply(sheet.matrix, fast, slow), v = this.view;
    return [(x - v.x) * v.zoom + this.canvas.clientWidth / 2, (y - v.y) * v.zoom + this.canvas.clientHeight / 2];
  }

  sheetOf(fast, slow) {
    return this.sheets.findLast(s => fast >= s.column && fast <= s.column + s.width
      && slow >= s.row && slow <= s.row + s.height) ?? null;
  }

  /** Fast and slow under a place of the canvas, from the corner of the frame; null beside it. */
  under(x, y) {
    if (!this.sheets) return null;
    const [wx, wy] = this.world(x, y);
    for (let i = this.sheets.length - 1; i >= 0; i--) {
      const s = this.sheets[i], [fast, slow] = apply(s.back, wx, wy);
      if (fast >= s.column && fast < s.column + s.width && slow >= s.row && slow < s.row + s.height) {
        return { fast, slow, sheet: s };
      }
    }
    return null;
  }

  // --- tiles

  /** A tile's values and mask if they are there; else they are asked for, those of `first` before others. */
  tile(level, row, column, first = false) {
    const key = `${this.frame}/${this.layer.name}/${level}/${row}/${column}`;
    const found = this.tiles.get(key);
    if (found) {
      this.tiles.delete(key);
      this.tiles.set(key, found);
      return found.values ? found : null;
    }
    const wish = { key, place: `${level}/${row}/${column}`, type: this.layer.type };
    if (first) this.wanted.unshift(wish); else this.wanted.push(wish);
    return null;
  }

  /** Ask for what is wanted most, a few tiles at a time. */
  pump() {
    while (this.asked < this.store.atOnce && this.wanted.length) {
      const wish = this.wanted.shift();
      if (this.tiles.has(wish.key)) continue;
      const tile = {};
      this.tiles.set(wish.key, tile);
      this.asked++;
      this.load(tile, wish).catch(error => {
        this.tiles.delete(wish.key);
        this.say(error.message);
      }).finally(() => {
        this.asked--;
        this.pump();
      });
    }
    for (const key of this.tiles.keys()) {
      if (this.tiles.size <= MOST_TILES) break;
      this.tiles.delete(key);
    }
  }

  async load(tile, wish) {
    const mask = this.scene.masked ? this.maskTile(wish.place) : null;
    const values = await this.store.numbers(`tile/${wish.key}`, wish.type);
    tile.mask = await mask;
    tile.values = values;
    this.draw();
    this.readOut();
  }

  maskTile(place) {
    const name = `mask/${place}`;
    if (!this.known.has(name)) this.known.set(name, this.store.numbers(name, "uint8"));
    return this.known.get(name);
  }

  sizeOf(level, row, column) {
    const { width, height, tile } = this.scene, step = 2 ** level;
    const across = Math.ceil(width / step), down = Math.ceil(height / step);
    return [Math.min(tile, across - column * tile), Math.min(tile, down - row * tile)];
  }

  /** The tile's picture in the colours of now. */
  picture(tile, level, row, column) {
    if (tile.key !== this.look.key) {
      const [width, height] = this.sizeOf(level, row, column);
      tile.canvas = painted(tile.values, this.look.mask ? tile.mask : null, width, height, this.look);
      tile.key = this.look.key;
    }
    return tile.canvas;
  }

  /** Value of a pixel of the frame; undefined as long as its tile is not there. */
  valueAt(fast, slow) {
    const side = this.scene.tile, row = Math.floor(slow / side), column = Math.floor(fast / side);
    const tile = this.tile(0, row, column, true);
    if (!tile) return undefined;
    const at = (slow - row * side) * this.sizeOf(0, row, column)[0] + fast - column * side;
    return { value: tile.values[at], masked: tile.mask ? tile.mask[at] : 0 };
  }

  // --- drawing

  /** Draw before the next picture of the screen. */
  draw() {
    if (this.due) return;
    this.due = true;
    requestAnimationFrame(() => {
      this.due = false;
      this.paint();
    });
  }

  paint() {
    const { canvas } = this, context = canvas.getContext("2d");
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.fillStyle = "#16181c";
    context.fillRect(0, 0, canvas.width, canvas.height);
    if (!this.sheets || !this.look) return;
    this.wanted = [];
    this.waiting = 0;
    for (const sheet of this.sheets) this.paintSheet(context, sheet);
    context.setTransform(this.ratio, 0, 0, this.ratio, 0, 0);
    this.paintValues(context);
    if (element("panels").checked) this.paintPanels(context);
    if (element("spots").checked && this.spots) this.paintSpots(context);
    if (element("rings").checked) this.paintRings(context);
    this.pump();
  }

  /** The matrix from pixels of the frame to those of the canvas. */
  place(sheet) {
    const v = this.view, z = v.zoom * this.ratio, m = sheet.matrix;
    return [m[0] * z, m[1] * z, m[2] * z, m[3] * z, (m[4] - v.x) * z + this.canvas.width / 2,
      (m[5] - v.y) * z + this.canvas.height / 2];
  }

  /** The part of a sheet that is on the screen: [left, top, right, bottom] in pixels of the frame; null if none. */
  seen(sheet) {
    const { clientWidth, clientHeight } = this.canvas;
    const corners = [[0, 0], [clientWidth, 0], [0, clientHeight], [clientWidth, clientHeight]]
      .map(([x, y]) => apply(sheet.back, ...this.world(x, y)));
    const xs = corners.map(c => c[0]), ys = corners.map(c => c[1]);
    const left = Math.max(sheet.column, Math.min(...xs)), right = Math.min(sheet.column + sheet.width, Math.max(...xs));
    const top = Math.max(sheet.row, Math.min(...ys)), bottom = Math.min(sheet.row + sheet.height, Math.max(...ys));
    return left < right && top < bottom ? [left, top, right, bottom] : null;
  }

  paintSheet(context, sheet) {
    const box = this.seen(sheet);
    if (!box) return;
    const m = this.place(sheet), scale = Math.sqrt(Math.abs(m[0] * m[3] - m[1] * m[2]));
    // An element of a tile is never smaller than a pixel of the screen: none is left out, none is blurred.
    const level = Math.min(Math.max(Math.ceil(-Math.log2(scale) - 1e-9), 0), this.scene.levels - 1);
    const side = this.scene.tile * 2 ** level;
    context.setTransform(...m);
    context.imageSmoothingEnabled = false;
    context.save();
    context.beginPath();
    context.rect(sheet.column, sheet.row, sheet.width, sheet.height);
    context.clip();
    for (let row = Math.floor(box[1] / side); row * side < box[3]; row++) {
      for (let column = Math.floor(box[0] / side); column * side < box[2]; column++) {
        this.paintTile(context, level, row, column);
      }
    }
    context.restore();
  }

  /** Draw a tile, or what is there of a coarser one in its place. */
  paintTile(context, level, row, column) {
    const tile = this.tile(level, row, column);
    const [width, height] = this.sizeOf(level, row, column), step = 2 ** level, side = this.scene.tile;
    const to = [column * side * step, row * side * step, width * step, height * step];
    if (tile) {
      context.drawImage(this.picture(tile, level, row, column), ...to);
      return;
    }
    this.waiting++;
    for (let up = 1; level + up < this.scene.levels; up++) {
      const part = 2 ** up, r = Math.floor(row / part), c = Math.floor(column / part);
      const coarse = this.tiles.get(`${this.frame}/${this.layer.name}/${level + up}/${r}/${c}`);
      if (!coarse?.values) continue;
      const from = [(column - c * part) * side / part, (row - r * part) * side / part, width / part, height / part];
      context.drawImage(this.picture(coarse, level + up, r, c), ...from, ...to);
      return;
    }
  }

  paintValues(context) {
    context.font = "11px system-ui, sans-serif";
    context.textAlign = "center";
    context.textBaseline = "middle";
    for (const sheet of this.sheets) {
      const m = sheet.matrix, scale = this.view.zoom * Math.sqrt(Math.abs(m[0] * m[3] - m[1] * m[2]));
      const box = scale >= WRITTEN ? this.seen(sheet) : null;
      if (!box) continue;
      for (let slow = Math.floor(box[1]); slow < box[3]; slow++) {
        for (let fast = Math.floor(box[0]); fast < box[2]; fast++) {
          const found = this.valueAt(fast, slow);
          if (!found) continue;
          const bright = (numberOf(found.value, this.look) > 140) !== (this.look.colours === "ink");
          context.fillStyle = bright && !(found.masked && this.look.mask) ? "#000" : "#fff";
          const [x, y] = this.screen(fast + 0.5, slow + 0.5, sheet);
          context.fillText(short(found.value), x, y, scale - 4);
        }
      }
    }
  }

  /** Draw a line through places of the frame, as far as it is near the screen: far strokes are slow. */
  line(context, points, sheet) {
    const { clientWidth, clientHeight } = this.canvas;
    const side = ([x, y]) => [x < -9 ? -1 : x > clientWidth + 9 ? 1 : 0, y < -9 ? -1 : y > clientHeight + 9 ? 1 : 0];
    let last = null;
    context.beginPath();
    for (const [fast, slow] of points) {
      const at = this.screen(fast, slow, sheet), here = side(at);
      const far = last && here.some((s, i) => s !== 0 && s === last.here[i]);
      if (last && !far) {
        if (last.far) context.moveTo(...last.at);
        context.lineTo(...at);
      }
      last = { at, here, far: far || !last };
    }
    context.stroke();
  }

  /** Stretches of a ring on a panel, kept until another frame is shown. */
  ring(panel, angle, steps) {
    this.rings = this.rings?.about === this.about ? this.rings : { about: this.about, known: new Map() };
    const key = `${this.about.panels.indexOf(panel)}/${angle}/${steps}`;
    if (!this.rings.known.has(key)) this.rings.known.set(key, ringOn(this.about, panel, angle, steps));
    return this.rings.known.get(key);
  }

  sheetOfPanel(panel) { return this.sheets.find(s => s.panel === panel) ?? this.sheets[0]; }

  paintPanels(context) {
    context.strokeStyle = "#58c26b";
    context.lineWidth = 1;
    context.font = "11px system-ui, sans-serif";
    context.textAlign = "center";
    context.textBaseline = "middle";
    for (const p of this.about.panels) {
      const sheet = this.sheetOfPanel(p), [c, r, w, h] = [p.column, p.row, p.width, p.height];
      this.line(context, [[c, r], [c + w, r], [c + w, r + h], [c, r + h], [c, r]], sheet);
      // A thicker stretch begins at the first pixel and leads along fast.
      context.lineWidth = 3;
      this.line(context, [[c, r], [c + w / 8, r]], sheet);
      context.lineWidth = 1;
      const [x, y] = this.screen(c + w / 2, r + h / 2, sheet);
      this.label(context, p.name, x, y, "#9be7a9");
    }
  }

  paintRings(context) {
    const typed = element("resolutions").value.split(/[\s,;]+/).map(Number).filter(d => d > 0);
    const rings = typed.length ? typed : chosenRings(this.about);
    const ink = this.look.colours === "ink" ? "#1663b8" : "#7db8ec";
    context.strokeStyle = ink;
    context.lineWidth = 1;
    context.font = "12px system-ui, sans-serif";
    context.textAlign = "left";
    context.textBaseline = "middle";
    const steps = this.about.panels.length > 1 || this.view.zoom > 3 ? 2880 : 720;
    for (const d of rings) {
      const angle = angleOf(this.about, d);
      let named = false;
      for (const panel of this.about.panels) {
        const sheet = this.sheetOfPanel(panel);
        for (const points of this.ring(panel, angle, steps)) {
          this.line(context, points, sheet);
          const place = named ? null : points.map(p => this.screen(...p, sheet)).find(([x, y]) =>
            x > 4 && y > 10 && x < this.canvas.clientWidth - 50 && y < this.canvas.clientHeight - 10);
          if (place) this.label(context, `${d} Å`, place[0] + 4, place[1], ink);
          named ||= Boolean(place);
        }
      }
    }
    const panel = this.about.panels.find(p => {
      const at = pixelOfRay(this.about, p, [0, 0, 1]);
      return at && at[0] >= p.column && at[0] <= p.column + p.width && at[1] >= p.row && at[1] <= p.row + p.height;
    });
    if (!panel) return;
    const [x, y] = this.screen(...pixelOfRay(this.about, panel, [0, 0, 1]), this.sheetOfPanel(panel));
    context.strokeStyle = "#4fe07a";
    context.beginPath();
    for (const [dx, dy] of [[9, 0], [0, 9]]) {
      context.moveTo(x - dx, y - dy);
      context.lineTo(x + dx, y + dy);
    }
    context.stroke();
  }

  label(context, text, x, y, colour) {
    const ink = this.look.colours === "ink";
    context.lineWidth = 2.5;
    const stroke = context.strokeStyle;
    context.strokeStyle = ink ? "#ffffffd0" : "#000000a0";
    context.strokeText(text, x, y);
    context.fillStyle = ink && colour.startsWith("#9b") ? "#1d6b2c" : colour;
    context.fillText(text, x, y);
    context.strokeStyle = stroke;
    context.lineWidth = 1;
  }

  paintSpots(context) {
    const { clientWidth, clientHeight } = this.canvas, s = this.spots, radius = this.spotRadius();
    const seen = [];
    for (let i = 0; i < s.n && seen.length < MOST_DRAWN; i++) {
      const at = this.screen(s.fast[i], s.slow[i]);
      if (at && at[0] > -radius && at[1] > -radius && at[0] < clientWidth + radius && at[1] < clientHeight + radius) {
        seen.push([i, at]);
      }
    }
    // Where they are crowded, what they surround still shows.
    context.lineWidth = seen.length > 800 ? 1 : 1.3;
    context.globalAlpha = seen.length > 800 ? 0.6 : 1;
    for (const [i, at] of seen) {
      context.strokeStyle = LATTICE_COLOURS[s.lattice[i] % LATTICE_COLOURS.length];
      context.beginPath();
      context.arc(...at, i === this.marked ? radius + 3 : radius, 0, 2 * Math.PI);
      context.stroke();
    }
    context.globalAlpha = 1;
  }

  spotRadius() { return Math.min(Math.max(2.5 * this.view.zoom, 3.5), 16); }

  // --- what is under the cursor

  readOut() {
    const at = this.cursor && this.under(...this.cursor);
    const put = (id, text) => { element(id).textContent = text; };
    if (!at || !this.about) {
      for (const id of ["place", "value", "resolution", "angle", "panel"]) put(id, "–");
      this.mark?.(null);
      this.tip(null);
      return;
    }
    const fast = Math.floor(at.fast), slow = Math.floor(at.slow);
    put("place", `${fast}, ${slow}`);
    const found = this.valueAt(fast, slow);
    this.pump();
    const why = ["", " (no pixel)", " (dead)", " (hot)"];
    put("value", found ? `${exact(found.value, this.layer.type)}${why[found.masked]}` : "…");
    const panel = at.sheet.panel ?? panelAt(this.about, at.fast, at.slow);
    put("panel", panel ? panel.name : "none");
    if (panel) {
      const { angle, d } = resolutionAt(this.about, panel, at.fast, at.slow);
      put("resolution", angstrom(d));
      put("angle", `${(angle * 180 / Math.PI).toFixed(3)}°`);
      this.mark?.(1 / d);
    } else {
      put("resolution", "–");
      put("angle", "–");
      this.mark?.(null);
    }
    this.tip(this.spotUnder(...this.cursor));
  }

  /** Number of the spot next to a place of the canvas; null where none is near. */
  spotUnder(x, y) {
    if (!element("spots").checked || !this.spots) return null;
    const s = this.spots;
    let best = null, least = Math.max(this.spotRadius(), 9) ** 2;
    for (let i = 0; i < s.n; i++) {
      const at = this.screen(s.fast[i], s.slow[i]);
      if (!at) continue;
      const far = (at[0] - x) ** 2 + (at[1] - y) ** 2;
      if (far < least) [best, least] = [i, far];
    }
    return best;
  }

  tip(spot) {
    const box = element("tip");
    box.hidden = spot === null;
    if (spot !== this.marked) {
      this.marked = spot;
      this.draw();
    }
    if (spot === null) return;
    const s = this.spots, lattices = s.lattice.some(n => n > 0);
    const lines = [`${s.h[spot]} ${s.k[spot]} ${s.l[spot]}`, `${short(s.photons[spot])} photons expected`,
      `${angstrom(s.resolution_A[spot])}, partiality ${short(s.partiality[spot])}`,
      `fast ${s.fast[spot].toFixed(2)}, slow ${s.slow[spot].toFixed(2)}`];
    if (lattices) lines.push(`lattice ${s.lattice[spot]}`);
    box.textContent = lines.join("\n");
    const [x, y] = this.screen(s.fast[spot], s.slow[spot]), { clientWidth, clientHeight } = this.canvas;
    box.style.left = `${Math.max(4, Math.min(x + 18, clientWidth - box.offsetWidth - 4))}px`;
    box.style.top = `${Math.max(4, Math.min(y + 12, clientHeight - box.offsetHeight - 4))}px`;
  }

  // --- hands

  listen() {
    const on = (id, event, act) => element(id).addEventListener(event, act);
    on("previous", "click", () => this.step(-1));
    on("next", "click", () => this.step(1));
    on("slide", "input", () => {
      const at = Number(element("slide").value);
      this.show(this.scene.frames ? this.scene.frames[at] : at);
    });
    on("frame", "change", () => {
      const { frames, total } = this.scene, asked = Math.round(Number(element("frame").value) || 0);
      const near = frames ? frames.reduce((a, b) => Math.abs(b - asked) < Math.abs(a - asked) ? b : a)
        : Math.min(Math.max(asked, 0), total - 1);
      this.show(near);
    });
    on("layer", "change", () => {
      this.typed = {};
      this.show(this.frame, this.scene.layers.find(one => one.name === element("layer").value));
    });
    on("scale", "change", () => { this.typed = {}; this.setLook(); });
    on("percentile", "input", () => {
      this.percentile = element("percentile").value;
      delete this.typed.high;
      this.setLook();
    });
    on("auto", "click", () => { this.percentile = null; this.typed = {}; this.setLook(); });
    for (const end of ["low", "high"]) {
      on(end, "change", () => {
        const value = element(end).valueAsNumber;
        if (Number.isFinite(value)) this.typed[end] = value; else delete this.typed[end];
        this.setLook();
      });
    }
    for (const id of ["colours", "mask"]) on(id, "change", () => this.setLook());
    for (const id of ["rings", "panels"]) on(id, "change", () => this.draw());
    on("resolutions", "input", () => this.draw());
    on("spots", "change", () => this.loadSpots(this.turn));
    on("assembled", "change", () => { this.arrange(); this.fit(); });
    on("closer", "click", () => this.zoomBy(1.5));
    on("farther", "click", () => this.zoomBy(1 / 1.5));
    on("pixels", "click", () => this.zoomBy(1 / this.view.zoom));
    on("fit", "click", () => this.fit());
    this.listenToPointers();
    this.canvas.addEventListener("keydown", event => this.key(event));
  }

  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const tick = id => () => element(id).click();
    const act = {
      ArrowLeft: () => this.step(-1), ArrowRight: () => this.step(1), "+": () => this.zoomBy(1.5),
      "-": () => this.zoomBy(1 / 1.5), 0: () => this.fit(), 1: () => this.zoomBy(1 / this.view.zoom),
      s: tick("spots"), r: tick("rings"), m: tick("mask"), p: tick("panels"),
    }[event.key];
    if (!act) return;
    event.preventDefault();
    act();
  }

  listenToPointers() {
    const { canvas } = this, down = new Map();
    const place = event => {
      const box = canvas.getBoundingClientRect();
      return [event.clientX - box.left, event.clientY - box.top];
    };
    canvas.addEventListener("wheel", event => {
      event.preventDefault();
      const lines = event.deltaMode === 1 ? 30 : 1;
      this.zoomBy(Math.exp(-Math.max(-300, Math.min(300, event.deltaY * lines)) / 400), ...place(event));
    }, { passive: false });
    canvas.addEventListener("pointerdown", event => {
      canvas.focus({ preventScroll: true });
      canvas.setPointerCapture(event.pointerId);
      down.set(event.pointerId, place(event));
      this.cursor = place(event);
      this.readOut();
    });
    canvas.addEventListener("pointermove", event => {
      const to = place(event), from = down.get(event.pointerId);
      if (from && down.size === 1) this.shift(from, to);
      if (from && down.size === 2) {
        const other = [...down].find(([id]) => id !== event.pointerId)[1];
        const far = (a, b) => Math.max(1, Math.hypot(a[0] - b[0], a[1] - b[1]));
        this.shift([(from[0] + other[0]) / 2, (from[1] + other[1]) / 2],
          [(to[0] + other[0]) / 2, (to[1] + other[1]) / 2]);
        this.zoomBy(far(to, other) / far(from, other), (to[0] + other[0]) / 2, (to[1] + other[1]) / 2);
      }
      if (from) down.set(event.pointerId, to);
      this.cursor = to;
      this.readOut();
    });
    for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, e => down.delete(e.pointerId));
    canvas.addEventListener("pointerleave", event => {
      if (event.pointerType !== "mouse") return; // what a finger touched last stays written
      this.cursor = null;
      this.readOut();
    });
  }

  shift(from, to) {
    this.view.x -= (to[0] - from[0]) / this.view.zoom;
    this.view.y -= (to[1] - from[1]) / this.view.zoom;
    this.draw();
  }
}

const SPOT_COLUMNS = ["h", "k", "l", "slow", "fast", "photons", "resolution_A", "partiality", "lattice"];

/** Fill the controls from the scene. */
function prepare(scene) {
  element("summary").textContent = scene.summary;
  const last = (scene.frames ? scene.frames.length : scene.total) - 1;
  element("slide").max = last;
  element("frame").max = scene.frames ? scene.frames[last] : last;
  for (const id of ["previous", "next", "slide", "frame"]) element(id).disabled = last === 0;
  element("layer").replaceChildren(...scene.layers.map(one => new Option(one.label, one.name)));
  element("layer").disabled = scene.layers.length === 1;
  element("spots").checked = scene.spots;
  element("mask").parentElement.hidden = !scene.masked;
}

async function main() {
  const store = document.documentElement.dataset.served === undefined ? new EmbeddedStore() : new ServedStore();
  let scene;
  try {
    scene = await store.json("scene");
  } catch (error) {
    element("message").textContent = error.message;
    element("message").hidden = false;
    return;
  }
  prepare(scene);
  const viewer = window.viewer = new Viewer(store, scene);
  await viewer.start();
  element("assembling").hidden = !(viewer.about?.panels.length > 1);
}

main();
