"use strict";
// Where pixels lie in the frame of McStas (z along the beam, y up), metres, and what follows from that.

const dot = (a, b) => a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
const cross = (a, b) => [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]];
const along = (a, t, b) => [a[0] + t * b[0], a[1] + t * b[1], a[2] + t * b[2]];

/** Turn a vector about a unit vector by an angle (right-handed). */
function turned(axis, v, angle) {
  const c = Math.cos(angle), s = Math.sin(angle), w = cross(axis, v), d = dot(axis, v) * (1 - c);
  return v.map((x, i) => x * c + w[i] * s + axis[i] * d);
}

/** The panel that has a pixel of the image, or null. */
function panelAt(sight, fast, slow) {
  return sight.panels.find(p => fast >= p.column && fast < p.column + p.width
    && slow >= p.row && slow < p.row + p.height) ?? null;
}

/** Place of a point of a panel; fast and slow in pixels of the image, from its corner. */
function position(sight, panel, fast, slow) {
  const f = fast - panel.column, s = slow - panel.row, c = sight.curve;
  if (!c) return along(along(panel.origin, f, panel.fast), s, panel.slow);
  const byFast = c.signs[0] * (f * c.pitch[0] - c.centre[0]) / c.radius;
  const bySlow = c.signs[1] * (s * c.pitch[1] - c.centre[1]) / c.radius;
  return turned(c.fast, turned(c.slow, [0, 0, c.radius], byFast), bySlow);
}

/** Scattering angle in radians, and resolution in angstrom. */
function resolutionAt(sight, panel, fast, slow) {
  const at = position(sight, panel, fast, slow);
  const angle = Math.atan2(Math.hypot(at[0], at[1]), at[2]);
  return { angle, d: sight.wavelength / (2 * Math.sin(angle / 2)) };
}

/** Angle of a resolution; NaN for what the wavelength does not reach. */
const angleOf = (sight, d) => 2 * Math.asin(sight.wavelength / (2 * d));

/** Pixels of the image, fast and slow, where a ray from the crystal meets a panel's plane; null where it does not. */
function pixelOfRay(sight, panel, ray) {
  const c = sight.curve;
  if (c) return pixelOnCurve(c, panel, ray);
  const normal = cross(panel.fast, panel.slow);
  const reach = dot(panel.origin, normal) / dot(ray, normal);
  if (!(reach > 0 && Number.isFinite(reach))) return null;
  const off = along(along([0, 0, 0], reach, ray), -1, panel.origin);
  // The axes need not be at right angles.
  const ff = dot(panel.fast, panel.fast), ss = dot(panel.slow, panel.slow), fs = dot(panel.fast, panel.slow);
  const f = dot(off, panel.fast), s = dot(off, panel.slow), det = ff * ss - fs * fs;
  return [panel.column + (f * ss - s * fs) / det, panel.row + (s * ff - f * fs) / det];
}

/** The same for a curved detector: the two arcs that lead from the beam to the ray. */
function pixelOnCurve(c, panel, ray) {
  // The turn about fast leaves what lies along fast: that is the first turn's alone, a cos x + b sin x + rest.
  const beam = [0, 0, 1], rest = dot(c.slow, beam) * dot(c.slow, c.fast);
  const a = dot(beam, c.fast) - rest, b = dot(cross(c.slow, beam), c.fast);
  const part = (dot(ray, c.fast) - rest) / Math.hypot(a, b);
  if (Math.abs(part) > 1) return null;
  const middle = Math.atan2(b, a), aside = Math.acos(part);
  const wrapped = x => x - 2 * Math.PI * Math.round(x / (2 * Math.PI));
  const byFast = [wrapped(middle - aside), wrapped(middle + aside)].sort((x, y) => Math.abs(x) - Math.abs(y))[0];
  const bent = turned(c.slow, beam, byFast);
  const bySlow = Math.atan2(dot(cross(bent, ray), c.fast), dot(bent, ray) - dot(bent, c.fast) * dot(ray, c.fast));
  return [
    panel.column + (byFast * c.signs[0] * c.radius + c.centre[0]) / c.pitch[0],
    panel.row + (bySlow * c.signs[1] * c.radius + c.centre[1]) / c.pitch[1],
  ];
}

/** Stretches of a ring on a panel: lists of [fast, slow]. */
function ringOn(sight, panel, angle, steps) {
  const stretches = [];
  let open = null;
  for (let i = 0; i <= steps; i++) {
    const turn = 2 * Math.PI * i / steps;
    const ray = [Math.sin(angle) * Math.cos(turn), Math.sin(angle) * Math.sin(turn), Math.cos(angle)];
    const at = pixelOfRay(sight, panel, ray);
    const inside = at && at[0] >= panel.column && at[0] <= panel.column + panel.width
      && at[1] >= panel.row && at[1] <= panel.row + panel.height;
    if (!inside) { open = null; continue; }
    if (!open) stretches.push(open = []);
    open.push(at);
  }
  return stretches.filter(points => points.length > 1);
}

const NICE = [100, 50, 30, 20, 15, 10, 7, 5, 4, 3.5, 3, 2.5, 2.2, 2, 1.8, 1.6, 1.5, 1.4, 1.3, 1.2, 1.1, 1, 0.9, 0.8,
  0.7, 0.6, 0.5, 0.4, 0.3];

/** Resolutions of about six rings that are told apart: those of the finest corner, evenly in its tangent. */
function chosenRings(sight) {
  let widest = 0;
  for (const p of sight.panels) {
    for (const [f, s] of [[0, 0], [p.width, 0], [0, p.height], [p.width, p.height], [p.width / 2, p.height / 2]]) {
      widest = Math.max(widest, resolutionAt(sight, p, p.column + f, p.row + s).angle);
    }
  }
  const far = Math.tan(widest / 2), found = [];
  let last = 0;
  for (const d of NICE) {
    const angle = angleOf(sight, d);
    if (!(angle <= widest)) break;
    const reach = Math.tan(angle / 2);
    if (reach - last < far / 8) continue;
    found.push(d);
    last = reach;
  }
  return found;
}

/** How each sheet of pixels lies in the view: an affine matrix [a, b, c, d, e, f] as canvases have them. */
function sheetsOf(sight, width, height, assembled) {
  if (!assembled) {
    return [{ matrix: [1, 0, 0, 1, 0, 0], column: 0, row: 0, width, height, panel: null }];
  }
  // As seen from the crystal: McStas's x is to the left, y up.
  const unit = Math.min(...sight.panels.map(p => Math.hypot(...p.fast)));
  return sight.panels.map(p => {
    const [a, b] = [-p.fast[0] / unit, -p.fast[1] / unit], [c, d] = [-p.slow[0] / unit, -p.slow[1] / unit];
    const [x, y] = [-p.origin[0] / unit, -p.origin[1] / unit];
    return {
      matrix: [a, b, c, d, x - a * p.column - c * p.row, y - b * p.column - d * p.row],
      column: p.column, row: p.row, width: p.width, height: p.height, panel: p,
    };
  });
}

const apply = (m, x, y) => [m[0] * x + m[2] * y + m[4], m[1] * x + m[3] * y + m[5]];

function inverse(m) {
  const det = m[0] * m[3] - m[1] * m[2];
  const [a, b, c, d] = [m[3] / det, -m[1] / det, -m[2] / det, m[0] / det];
  return [a, b, c, d, -(a * m[4] + c * m[5]), -(b * m[4] + d * m[5])];
}
