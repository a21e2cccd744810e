"use strict";
// From values to colours.

const ANCHORS = {
  fire: [[0, 0, 0], [24, 14, 66], [82, 18, 124], [147, 35, 114], [206, 64, 78], [244, 117, 38], [253, 185, 56],
    [255, 249, 216]],
  grey: [[0, 0, 0], [255, 255, 255]],
  ink: [[255, 255, 255], [0, 0, 0]],
};

/** Colours of what is masked, as the mask has it: no pixel, dead, hot. */
const MASKED = [null, [38, 62, 74], [196, 64, 160], [64, 190, 200]];

const rgba = ([r, g, b]) => ((255 << 24) | (b << 16) | (g << 8) | r) >>> 0;

/** 256 colours as canvases keep them. */
function paletteOf(name) {
  const anchors = ANCHORS[name], colours = new Uint32Array(256);
  for (let i = 0; i < 256; i++) {
    const at = i / 255 * (anchors.length - 1), k = Math.min(Math.floor(at), anchors.length - 2), t = at - k;
    colours[i] = rgba(anchors[k].map((x, j) => Math.round(x + t * (anchors[k + 1][j] - x))));
  }
  return colours;
}

/** Colour number, 0 to 255, of a value. */
function numberOf(value, look) {
  if (!(value > look.low)) return 0;
  let share = (value - look.low) / (look.high - look.low);
  if (look.scale === "sqrt") share = Math.sqrt(share);
  if (look.scale === "log") share = Math.log(value / look.low) / Math.log(look.high / look.low);
  return share >= 1 ? 255 : Math.floor(share * 256);
}

/** Paint values on a new canvas. */
function painted(values, mask, width, height, look) {
  const canvas = document.createElement("canvas");
  canvas.width = width;
  canvas.height = height;
  const context = canvas.getContext("2d"), picture = context.createImageData(width, height);
  const pixels = new Uint32Array(picture.data.buffer), colours = paletteOf(look.colours);
  const masked = MASKED.map(colour => colour && rgba(colour));
  for (let i = 0; i < pixels.length; i++) {
    pixels[i] = mask && masked[mask[i]] ? masked[mask[i]] : colours[numberOf(values[i], look)];
  }
  context.putImageData(picture, 0, 0);
  return canvas;
}

const levelOf = (numbers, percentile) => numbers.levels[numbers.percentiles.indexOf(percentile)];

/** The percentile of what is above 0 that suits an image: 99.9, or more where that is background yet. */
function suitingPercentile(numbers) {
  const middle = levelOf(numbers, 50);
  return numbers.percentiles.find(p => p >= 99.9 && levelOf(numbers, p) >= 4 * middle) ?? 99.9;
}

/** The limits of contrast that follow from the percentile of what is above 0. */
function limitsOf(numbers, scale, percentile, whole) {
  const level = p => levelOf(numbers, p);
  const high = level(percentile) || 1;
  if (scale !== "log") return { low: 0, high };
  // A background that covers the frame stays dark, and spots stand out of it.
  const low = Math.min(Math.max(2 * level(50), high / 1000), high / 20);
  return { low: whole ? Math.max(low, Math.min(0.5, high / 20)) : low, high };
}

/** A number in few letters. */
function short(value) {
  if (value === 0 || value === undefined || value === null || Number.isNaN(value)) return value === 0 ? "0" : "–";
  const size = Math.abs(value);
  if (Number.isInteger(value) && size < 1e6) return String(value);
  return size >= 1e5 || size < 1e-3 ? value.toExponential(2) : String(Number(value.toPrecision(4)));
}

/** A value in the fewest digits that mean it and no other of its type. */
function exact(value, type) {
  if (type !== "float32") return String(value);
  for (let digits = 1; digits < 9; digits++) {
    const text = String(Number(value.toPrecision(digits)));
    if (Math.fround(Number(text)) === value) return text;
  }
  return String(Number(value.toPrecision(9)));
}

const angstrom = d => `${Number.isFinite(d) ? d.toPrecision(4) : "∞"} Å`;
