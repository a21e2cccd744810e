"use strict";
// Two plots beside the frame, as SVG.

const SVG = "http://www.w3.org/2000/svg";
const BOX = { width: 330, height: 150, left: 40, right: 8, top: 8, bottom: 30 };

function put(parent, kind, attributes, text) {
  const made = document.createElementNS(SVG, kind);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  if (text !== undefined) made.textContent = text;
  parent.append(made);
  return made;
}

/** A function from values to places along an axis. */
function axis(low, high, start, stop, log) {
  const of = log ? value => Math.log10(value) : value => value;
  const [a, b] = [of(low), of(high)], width = b - a || 1;
  return value => start + (of(value) - a) / width * (stop - start);
}

/** Powers of ten between two numbers, few enough to be read; where there is hardly one, 2 and 5 times those, too. */
function decades(low, high, most) {
  if (high / low < 100) {
    const found = [];
    for (let k = Math.floor(Math.log10(low)); k <= Math.log10(high); k++) {
      for (const times of [1, 2, 5]) found.push(Number((times * 10 ** k).toPrecision(1)));
    }
    return found.filter(value => value >= low && value <= high);
  }
  const first = Math.ceil(Math.log10(low) - 1e-9), last = Math.floor(Math.log10(high) + 1e-9);
  const step = Math.max(1, Math.ceil((last - first + 1) / most)), found = [];
  for (let k = first; k <= last; k += step) found.push(10 ** k);
  return found;
}

function evenly(low, high, most) {
  const rough = (high - low) / most, unit = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map(k => k * unit).find(k => k >= rough), found = [];
  for (let x = Math.ceil(low / step) * step; x <= high * (1 + 1e-12); x += step) found.push(Number(x.toPrecision(9)));
  return found;
}

/** Draw axes; return the functions from values to places. */
function frameOf(svg, x, y) {
  svg.replaceChildren();
  svg.setAttribute("viewBox", `0 0 ${BOX.width} ${BOX.height}`);
  const right = BOX.width - BOX.right, floor = BOX.height - BOX.bottom;
  const across = axis(x.low, x.high, BOX.left, right, x.log), up = axis(y.low, y.high, floor, BOX.top, y.log);
  for (const value of y.ticks) {
    put(svg, "line", { x1: BOX.left, x2: right, y1: up(value), y2: up(value), stroke: "#e3e6ea" });
    put(svg, "text", { x: BOX.left - 4, y: up(value) + 3, "text-anchor": "end" }, short(value));
  }
  for (const [value, label] of x.ticks) {
    put(svg, "line", { x1: across(value), x2: across(value), y1: floor, y2: floor + 3, stroke: "#9aa1ab" });
    put(svg, "text", { x: across(value), y: floor + 13, "text-anchor": "middle" }, label);
  }
  put(svg, "line", { x1: BOX.left, x2: right, y1: floor, y2: floor, stroke: "#9aa1ab" });
  put(svg, "text", { x: (BOX.left + right) / 2, y: BOX.height - 4, "text-anchor": "middle" }, x.name);
  return { across, up, floor };
}

function drawProfile(svg, profile, unit) {
  const { inverse_d: at, mean } = profile, shown = mean.map((value, i) => [at[i], value]).filter(p => p[1] > 0);
  if (!shown.length) return empty(svg, "nothing but zeros");
  const values = shown.map(p => p[1]), top = Math.max(...values), low = Math.max(Math.min(...values), top * 1e-8);
  const last = at[at.length - 1], log = top / low > 20;
  const y = log ? { low: low / 1.3, high: top * 1.3, log, ticks: decades(low / 1.3, top * 1.3, 5) }
    : { low: 0, high: top * 1.05, log, ticks: evenly(0, top * 1.05, 4) };
  // Marks at round resolutions, no two closer than a label is wide.
  const ticks = [];
  for (const d of NICE) {
    if (1 / d <= last && (1 / d - (ticks.length ? ticks[ticks.length - 1][0] : 0)) > last / 11) ticks.push([1 / d, d]);
  }
  const { across, up } = frameOf(svg, { low: 0, high: last, ticks, name: `resolution, Å; mean ${unit} of a pixel` }, y);
  const points = shown.map(([x, value]) => `${across(x).toFixed(1)},${up(Math.max(value, y.low)).toFixed(1)}`);
  put(svg, "polyline", { points: points.join(" "), fill: "none", stroke: "#b0301e", "stroke-width": 1.3 });
  const mark = put(svg, "line", { y1: BOX.top, y2: BOX.height - BOX.bottom, stroke: "#0b62c4", visibility: "hidden" });
  return inverseD => {
    const seen = inverseD !== null && inverseD <= last;
    mark.setAttribute("visibility", seen ? "visible" : "hidden");
    if (seen) for (const end of ["x1", "x2"]) mark.setAttribute(end, across(inverseD));
  };
}

function drawHistogram(svg, histogram, unit, look) {
  const { edges, pixels, per } = histogram, whole = per === "value";
  const shown = pixels.filter(n => n > 0);
  if (!shown.length) return empty(svg, "no pixel is above 0");
  const top = Math.max(...shown) * 1.5, low = Math.min(...shown, 1) / 1.5;
  // Whole numbers up to some hundreds are shown evenly; 0, which has no logarithm, stands half a step before 1.
  const log = !whole || edges[edges.length - 1] > 300, start = whole && log ? 0.5 : edges[0], stop = edges[edges.length - 1];
  const place = value => Math.max(value, start);
  const marks = whole && !log ? evenly(0, stop - 1, 6).filter(Number.isInteger).map(v => [v + 0.5, short(v)])
    : decades(start, stop, 7).map(v => [v, short(v)]);
  const name = `${unit} of a pixel; pixels ${whole ? "of each value" : "in a bin"}`;
  const { across, up, floor } = frameOf(svg, { low: start, high: stop, log, ticks: marks, name },
    { low, high: top, log: true, ticks: decades(low, top, 5) });
  pixels.forEach((n, i) => {
    if (!n) return;
    const x = across(place(edges[i])), width = Math.max(across(place(edges[i + 1])) - x, 0.3), y = up(n);
    put(svg, "rect", { x: x.toFixed(2), y: y.toFixed(2), width: width.toFixed(2), height: (floor - y).toFixed(2),
      fill: "#7a8798" });
  });
  for (const value of [look.low, look.high]) {
    if (value < start || value > stop) continue;
    put(svg, "line", { x1: across(value), x2: across(value), y1: BOX.top, y2: floor, stroke: "#0b62c4",
      "stroke-dasharray": "3 2" });
  }
  return null;
}

function empty(svg, text) {
  svg.replaceChildren();
  svg.setAttribute("viewBox", `0 0 ${BOX.width} ${BOX.height}`);
  put(svg, "text", { x: BOX.width / 2, y: BOX.height / 2, "text-anchor": "middle" }, text);
  return () => {};
}
