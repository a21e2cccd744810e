"""Where the spots of a frame fall and how many photons each holds, reflection by reflection (docs/series.md).

For one reflection and one step (source x orientation) the Ewald sphere is taken as its tangent plane. The
integral of the lattice factor over that plane is the one-dimensional Fourier transform of the crystal's
autocorrelation along the plane's normal (the projection-slice theorem); its first moment gives the centroid.
"""

import math

import numpy as np
from bragg_numba.kernels import physics, walk
from bragg_numba.kernels._jit import serial_kernel, shared_function
from bragg_numba.kernels.parameters import GAUSS, ROUND, SHARE_OF_CELL, SQUARE, TOPHAT
from bragg_numba.kernels.work import panel_at

#: Columns of what ``list_spots`` finds.
H, K, L, SLOW, FAST, PHOTONS, RESOLUTION, PARTIALITY, EXCITATION, PANEL = range(10)
N_COLUMNS = 10

#: Gauss-Legendre nodes for integrals over the autocorrelation: exact to 1e-12 up to REACH fringes.
_x, _w = np.polynomial.legendre.leggauss(32)
NODES, WEIGHTS = (_x + 1.0) / 2.0, _w / 2.0
_x, _w = np.polynomial.legendre.leggauss(8)
FEW_NODES, FEW_WEIGHTS = (_x + 1.0) / 2.0, _w / 2.0

#: How far from the Ewald sphere a reflection is followed, in fringes (square, round) or in units of the metric.
REACH = 4.0


@serial_kernel
def closed_integrals(a, b, c, longest, omega):
    """Integrals over 0 <= t <= longest of the autocorrelation p_a p_b p_c times cos, and of pairs times sin.

    p_a = 1 - a t and so on. The recursion divides by omega: not for small omega * longest. Returns the first,
    and those of p_b p_c, p_a p_c, p_a p_b.
    """
    per, sine, cosine = 1.0 / omega, math.sin(omega * longest), math.cos(omega * longest)
    squared = longest * longest
    c_0, s_0 = per * sine, per * (1.0 - cosine)
    c_1, s_1 = per * (longest * sine - s_0), per * (c_0 - longest * cosine)
    c_2, s_2 = per * (squared * sine - 2.0 * s_1), per * (2.0 * c_1 - squared * cosine)
    c_3 = per * (squared * longest * sine - 3.0 * s_2)
    whole = c_0 - (a + b + c) * c_1 + (a * b + a * c + b * c) * c_2 - a * b * c * c_3
    return (
        whole,
        s_0 - (b + c) * s_1 + b * c * s_2,
        s_0 - (a + c) * s_1 + a * c * s_2,
        s_0 - (a + b) * s_1 + a * b * s_2,
    )


@serial_kernel
def sampled_integrals(a, b, c, longest, omega):
    """The same by quadrature: for omega * longest up to 1/2, where 8 nodes are exact to rounding."""
    whole, s_a, s_b, s_c = 0.0, 0.0, 0.0, 0.0
    for i in range(len(FEW_NODES)):
        t = longest * FEW_NODES[i]
        p_a, p_b, p_c = 1.0 - a * t, 1.0 - b * t, 1.0 - c * t
        w = longest * FEW_WEIGHTS[i]
        whole += w * math.cos(omega * t) * p_a * p_b * p_c
        sine = w * math.sin(omega * t)
        s_a += sine * p_b * p_c
        s_b += sine * p_a * p_c
        s_c += sine * p_a * p_b
    return whole, s_a, s_b, s_c


@serial_kernel
def square_slice(n_x, n_y, n_z, zeta, star, counts, volume, out):
    """Fill out with the plane integral of the square crystal's factor and the plane's centroid from the point.

    The plane's normal is n and it lies at ``zeta`` (1/m) along it from the reciprocal lattice point. ``star``
    is (3, 3), columns a*, b*, c* in 1/m; ``volume`` of the cell in m^3. out: integral (1/m^2), x, y, z (1/m). Returns
    ``zeta`` in fringes; beyond REACH nothing is filled.
    """
    u_a = (n_x * star[0, 0] + n_y * star[1, 0] + n_z * star[2, 0]) / counts[0]
    u_b = (n_x * star[0, 1] + n_y * star[1, 1] + n_z * star[2, 1]) / counts[1]
    u_c = (n_x * star[0, 2] + n_y * star[1, 2] + n_z * star[2, 2]) / counts[2]
    a, b, c = abs(u_a), abs(u_b), abs(u_c)
    longest = 1.0 / max(a, b, c)
    if abs(zeta * longest) > REACH:
        return zeta * longest
    omega = 2.0 * math.pi * zeta
    if abs(omega) * longest > 0.5:
        whole, s_a, s_b, s_c = closed_integrals(a, b, c, longest, omega)
    else:
        whole, s_a, s_b, s_c = sampled_integrals(a, b, c, longest, omega)
    crystal = volume * counts[0] * counts[1] * counts[2]
    out[0] = 2.0 * whole / crystal
    s_a *= _sign(u_a) / counts[0]
    s_b *= _sign(u_b) / counts[1]
    s_c *= _sign(u_c) / counts[2]
    m_x = s_a * star[0, 0] + s_b * star[0, 1] + s_c * star[0, 2]
    m_y = s_a * star[1, 0] + s_b * star[1, 1] + s_c * star[1, 2]
    m_z = s_a * star[2, 0] + s_b * star[2, 1] + s_c * star[2, 2]
    along = m_x * n_x + m_y * n_y + m_z * n_z
    per = 1.0 / (math.pi * crystal * out[0]) if out[0] > 0.0 else 0.0
    out[1] = zeta * n_x + per * (m_x - along * n_x)
    out[2] = zeta * n_y + per * (m_y - along * n_y)
    out[3] = zeta * n_z + per * (m_z - along * n_z)
    return zeta * longest


@serial_kernel
def square_peak(n_x, n_y, n_z, star, counts, volume):
    """The integral of ``square_slice`` for the plane through the point itself: a polynomial."""
    a = abs(n_x * star[0, 0] + n_y * star[1, 0] + n_z * star[2, 0]) / counts[0]
    b = abs(n_x * star[0, 1] + n_y * star[1, 1] + n_z * star[2, 1]) / counts[1]
    c = abs(n_x * star[0, 2] + n_y * star[1, 2] + n_z * star[2, 2]) / counts[2]
    t = 1.0 / max(a, b, c)
    pairs, triple = a * b + a * c + b * c, a * b * c
    whole = t * (1.0 - t * ((a + b + c) / 2.0 - t * (pairs / 3.0 - t * triple / 4.0)))
    return 2.0 * whole / (volume * counts[0] * counts[1] * counts[2])


@serial_kernel
def _sign(x):
    return 1.0 if x > 0.0 else (-1.0 if x < 0.0 else 0.0)


@serial_kernel
def metric_slice(shape, n_x, n_y, n_z, zeta, inverse_metric, root_det, out):
    """The same for the shapes whose factor depends on a squared radius alone; return that radius' distance.

    ``inverse_metric`` (3, 3), 1/m^2: of the form that gives the squared radius of a displacement in 1/m;
    ``root_det`` is the root of that form's determinant.
    """
    w_x = inverse_metric[0, 0] * n_x + inverse_metric[0, 1] * n_y + inverse_metric[0, 2] * n_z
    w_y = inverse_metric[1, 0] * n_x + inverse_metric[1, 1] * n_y + inverse_metric[1, 2] * n_z
    w_z = inverse_metric[2, 0] * n_x + inverse_metric[2, 1] * n_y + inverse_metric[2, 2] * n_z
    across = n_x * w_x + n_y * w_y + n_z * w_z
    rho = abs(zeta) / math.sqrt(across)
    if shape == GAUSS:
        disc = 0.315 * math.pi * math.exp(-2.0 * rho * rho / 0.63)
    elif shape == ROUND:
        # The autocorrelation of a sphere of diameter 1, in the metric's units.
        disc = 0.0
        for i in range(len(NODES)):
            t = NODES[i]
            disc += WEIGHTS[i] * (1.0 - 1.5 * t + 0.5 * t * t * t) * math.cos(2.0 * math.pi * rho * t)
        disc *= 12.0 / math.pi * physics.SPHERE_SCALE * physics.SPHERE_SCALE
    elif shape == TOPHAT:
        disc = math.pi * max(0.0, 0.3969 - rho * rho)
    else:
        disc = math.nan  # a shape that is not known here
    out[0] = disc / (root_det * math.sqrt(across))
    out[1], out[2], out[3] = zeta * w_x / across, zeta * w_y / across, zeta * w_z / across
    return rho


@serial_kernel
def metric_peak(shape, n_x, n_y, n_z, inverse_metric, root_det):
    """The integral of ``metric_slice`` for the plane through the point itself."""
    w_x = inverse_metric[0, 0] * n_x + inverse_metric[0, 1] * n_y + inverse_metric[0, 2] * n_z
    w_y = inverse_metric[1, 0] * n_x + inverse_metric[1, 1] * n_y + inverse_metric[1, 2] * n_z
    w_z = inverse_metric[2, 0] * n_x + inverse_metric[2, 1] * n_y + inverse_metric[2, 2] * n_z
    if shape == GAUSS:
        disc = 0.315 * math.pi
    elif shape == ROUND:
        disc = 4.5 / math.pi * physics.SPHERE_SCALE * physics.SPHERE_SCALE
    elif shape == TOPHAT:
        disc = math.pi * 0.3969
    else:
        disc = math.nan  # a shape that is not known here
    return disc / (root_det * math.sqrt(n_x * w_x + n_y * w_y + n_z * w_z))


@serial_kernel
def hit_flat(g, d_x, d_y, d_z, depth, out):
    """Fill out with the fast, slow coordinates (m) where a ray meets the detector's layer; False: it does not."""
    toward = d_x * g.normal_x + d_y * g.normal_y + d_z * g.normal_z
    if toward <= 1e-6:
        return False
    reach = g.origin_x * g.normal_x + g.origin_y * g.normal_y + g.origin_z * g.normal_z + depth
    t = reach / toward
    p_x = t * d_x - g.origin_x - depth * g.normal_x
    p_y = t * d_y - g.origin_y - depth * g.normal_y
    p_z = t * d_z - g.origin_z - depth * g.normal_z
    # The axes of a custom detector need not be at right angles.
    ff = g.fast_x * g.fast_x + g.fast_y * g.fast_y + g.fast_z * g.fast_z
    ss = g.slow_x * g.slow_x + g.slow_y * g.slow_y + g.slow_z * g.slow_z
    fs = g.fast_x * g.slow_x + g.fast_y * g.slow_y + g.fast_z * g.slow_z
    pf = p_x * g.fast_x + p_y * g.fast_y + p_z * g.fast_z
    ps = p_x * g.slow_x + p_y * g.slow_y + p_z * g.slow_z
    det = ff * ss - fs * fs
    out[0] = (pf * ss - ps * fs) / det
    out[1] = (ps * ff - pf * fs) / det
    return True


@serial_kernel
def hit_curved(g, d_x, d_y, d_z, depth, out):
    """The same on the curved detector, by Newton's method from the flat one's answer."""
    if not hit_flat(g, d_x, d_y, d_z, depth, out):
        return False
    fast, slow = out[0], out[1]
    radius = g.curve_radius + depth
    t_x, t_y, t_z = radius * d_x, radius * d_y, radius * d_z
    # Too far from the flat answer on a strongly bent detector: start on the arc.
    fast = g.beam_fast + g.curve_radius * math.atan((fast - g.beam_fast) / g.curve_radius)
    slow = g.beam_slow + g.curve_radius * math.atan((slow - g.beam_slow) / g.curve_radius)
    step = 1e-6 * g.curve_radius
    for _ in range(20):
        x, y, z = physics.curved_position(g, fast, slow, depth)
        fx, fy, fz = physics.curved_position(g, fast + step, slow, depth)
        sx, sy, sz = physics.curved_position(g, fast, slow + step, depth)
        fx, fy, fz = (fx - x) / step, (fy - y) / step, (fz - z) / step
        sx, sy, sz = (sx - x) / step, (sy - y) / step, (sz - z) / step
        r_x, r_y, r_z = t_x - x, t_y - y, t_z - z
        ff, ss = fx * fx + fy * fy + fz * fz, sx * sx + sy * sy + sz * sz
        fs = fx * sx + fy * sy + fz * sz
        rf, rs = r_x * fx + r_y * fy + r_z * fz, r_x * sx + r_y * sy + r_z * sz
        det = ff * ss - fs * fs
        if det <= 1e-12:
            return False
        d_fast, d_slow = (rf * ss - rs * fs) / det, (rs * ff - rf * fs) / det
        fast += d_fast
        slow += d_slow
        if abs(d_fast) + abs(d_slow) < 1e-9 * g.curve_radius:
            out[0], out[1] = fast, slow
            return r_x * r_x + r_y * r_y + r_z * r_z < (1e-3 * radius) ** 2
    return False


@serial_kernel
def place_spot(g, per_term, d_x, d_y, d_z, point):
    """Fill point with fast, slow (m), averaged over the sensor's layers; return the captured share, or -1.

    The share holds the factor by which the model's solid angle of a pixel differs from the true one.
    """
    fast, slow, captured = 0.0, 0.0, 0.0
    parallax = d_x * g.normal_x + d_y * g.normal_y + d_z * g.normal_z
    for layer in range(g.layers):
        depth = layer * g.layer_step
        hit = hit_curved(g, d_x, d_y, d_z, depth, point) if g.curved else hit_flat(g, d_x, d_y, d_z, depth, point)
        if not hit:
            return -1.0
        share = 1.0
        if g.has_sensor:
            # nanoBragg weights the sum of all layers by the last one's capture.
            counted = layer if per_term else g.layers - 1
            share = physics.capture_fraction(counted, g.layer_step, g.attenuation, parallax)
        fast += share * point[0]
        slow += share * point[1]
        captured += share
    if captured <= 0.0:
        return -1.0
    point[0] = fast / captured
    point[1] = slow / captured
    if g.curved:
        position = physics.curved_position(g, point[0], point[1], 0.0)
        # The arcs are a sphere's longitude and latitude: rows draw together away from the equator.
        obliquity = math.cos((point[0] - g.beam_fast) / g.curve_radius)
    else:
        position = physics.flat_position(g, point[0], point[1], 0.0)
        obliquity = parallax
    squared = position[0] ** 2 + position[1] ** 2 + position[2] ** 2
    true = g.pitch_fast * g.height / squared * obliquity
    model = physics.solid_angle(math.sqrt(squared), g.pitch_fast, g.height, g.close_distance, g.point_pixel)
    return captured * model / true


@serial_kernel
def l_limits(q_x, q_y, q_z, star, i_x, i_y, i_z, wavelength, radius):
    """Lowest and highest l with abs(q + l c* + i / wavelength) <= radius, as floats; empty: lowest > highest."""
    c_x, c_y, c_z = star[0, 2], star[1, 2], star[2, 2]
    s_x, s_y, s_z = q_x + i_x / wavelength, q_y + i_y / wavelength, q_z + i_z / wavelength
    aa = c_x * c_x + c_y * c_y + c_z * c_z
    half = s_x * c_x + s_y * c_y + s_z * c_z
    rest = s_x * s_x + s_y * s_y + s_z * s_z - radius * radius
    root = half * half - aa * rest
    if root < 0.0 or radius <= 0.0:
        return 1.0, 0.0
    root = math.sqrt(root)
    return (-half - root) / aa, (-half + root) / aa


@serial_kernel
def list_spots(
    panels,
    cones,
    lattice,
    lookup,
    rules,
    sources,
    cells,
    table,
    stars,
    roi,
    mask,
    inverse_gram,
    limits,
    slack,
    q_max,
    reach,
    threshold,
    dispersion,
):
    """List the reflections with at least ``threshold`` photons whose centroid falls on a rendered pixel of a panel.

    Parameters
    ----------
    panels
        Array of kernels.parameters.PANEL_RECORD.
    cones
        float64 (n, 4): a unit vector, and the least cosine to it at which the first step's ray may end as a spot on
        the panel.
    sources
        kernels.parameters.Sources.
    cells, stars
        (n, N_CELL) real cells with their shares (parameters.py), and (n, 3, 3) reciprocal ones (columns a*, b*, c*),
        1/m, of every orientation.
    inverse_gram
        (3, 3) inverse of the lattice's metric; not used by square crystals.
    limits
        int64 (2,): largest abs(h) and abs(k) within reach of the beam.
    slack, q_max
        Largest distance from the first step's Ewald sphere, and longest scattering vector, that are looked at, 1/m.
    reach
        Largest distance from any step's Ewald sphere that matters, 1/m.
    threshold
        Photons.
    dispersion
        kernels.parameters.Dispersion where F depends on the wavelength, else None; ``table`` then is the largest F.

    Returns
    -------
    numpy.ndarray
        float64 (n, N_COLUMNS), in the order of h, k, l: see H to PANEL. Centroids are in pixels from the outer
        corner of the frame, resolution in metres, the excitation error in 1/m.
    """
    found = np.empty((256, N_COLUMNS))
    n = 0
    room = np.empty(4), np.empty(2)
    held, panel = 0, panel_at(panels, 0)
    star = stars[0]
    volumes, inverse_metrics, root_dets = forms(cells, stars, inverse_gram)
    incident, wavelength = sources.incident, sources.wavelength
    i_x, i_y, i_z = incident[0, 0], incident[0, 1], incident[0, 2]
    sphere = 1.0 / wavelength[0]
    for h in range(-limits[0], limits[0] + 1):
        for k in range(-limits[1], limits[1] + 1):
            q_x = h * star[0, 0] + k * star[0, 1]
            q_y = h * star[1, 0] + k * star[1, 1]
            q_z = h * star[2, 0] + k * star[2, 1]
            low, high = l_limits(q_x, q_y, q_z, star, i_x, i_y, i_z, wavelength[0], sphere + slack)
            hole_low, hole_high = l_limits(q_x, q_y, q_z, star, i_x, i_y, i_z, wavelength[0], sphere - slack)
            near_low, near_high = l_limits(q_x, q_y, q_z, star, 0.0, 0.0, 0.0, 1.0, q_max)
            low, high = max(low, near_low), min(high, near_high)
            l = math.ceil(low)  # noqa: E741
            while l <= high:
                if hole_low < l < hole_high:
                    l = math.floor(hole_high) + 1  # noqa: E741
                    continue
                s_x, s_y, s_z = q_x + l * star[0, 2], q_y + l * star[1, 2], q_z + l * star[2, 2]
                s_x, s_y, s_z = s_x + i_x * sphere, s_y + i_y * sphere, s_z + i_z * sphere
                length = math.sqrt(s_x * s_x + s_y * s_y + s_z * s_z)
                for number in range(len(panels)):
                    c = cones[number]
                    if s_x * c[0] + s_y * c[1] + s_z * c[2] < c[3] * length:
                        continue
                    if n == len(found):
                        more = np.empty((2 * n, N_COLUMNS))
                        more[:n] = found
                        found = more
                    found[n, PANEL] = number
                    if number != held:
                        held, panel = number, panel_at(panels, number)
                    if measure_spot(
                        panel,
                        lattice,
                        lookup,
                        rules,
                        sources,
                        cells,
                        table,
                        stars,
                        roi,
                        mask,
                        volumes,
                        inverse_metrics,
                        root_dets,
                        reach,
                        threshold,
                        dispersion,
                        h,
                        k,
                        int(l),
                        room,
                        found[n],
                    ):
                        n += 1
                l += 1  # noqa: E741
    return found[:n].copy()


@shared_function
def measure_spot(
    panel,
    lattice,
    lookup,
    rules,
    sources,
    cells,
    table,
    stars,
    roi,
    mask,
    volumes,
    inverse_metrics,
    root_dets,
    reach,
    threshold,
    dispersion,
    h,
    k,
    l,  # noqa: E741
    room,
    out,
):
    """Sum one reflection over all steps into out (N_COLUMNS); tell whether it is a spot of this frame.

    ``room``: arrays of 4 and 2, for whatever they are needed.
    """
    f_cell = walk.nearest_factor(lookup, table, float(h), float(k), float(l))
    if f_cell == 0.0:
        return False
    incident, wavelength, weight = sources.incident, sources.wavelength, sources.weight
    counts = (lattice.n_a, lattice.n_b, lattice.n_c)
    all_cells = lattice.n_a * lattice.n_b * lattice.n_c
    piece, point = room
    all_weights, near_weights = 0.0, 0.0
    photons, possible, fast, slow = 0.0, 0.0, 0.0, 0.0
    nearest = math.inf
    for orientation in range(len(cells)):
        # Numbers, not rows of arrays: most steps end at once, and a row costs more than all of their arithmetic.
        q_x = h * stars[orientation, 0, 0] + k * stars[orientation, 0, 1] + l * stars[orientation, 0, 2]
        q_y = h * stars[orientation, 1, 0] + k * stars[orientation, 1, 1] + l * stars[orientation, 1, 2]
        q_z = h * stars[orientation, 2, 0] + k * stars[orientation, 2, 1] + l * stars[orientation, 2, 2]
        if orientation == 0:
            length = math.sqrt(q_x * q_x + q_y * q_y + q_z * q_z)
            out[RESOLUTION] = 1.0 / length if length > 0.0 else math.inf
            if out[RESOLUTION] < panel.dmin:
                return False
        for source in range(len(wavelength)):
            share = weight[source] * cells[orientation, SHARE_OF_CELL]
            if dispersion is not None:
                share *= walk.dispersed_square(lookup, dispersion, source, float(h), float(k), float(l))
            all_weights += share
            per_wavelength = 1.0 / wavelength[source]
            i_x, i_y, i_z = incident[source, 0], incident[source, 1], incident[source, 2]
            s_x, s_y, s_z = q_x + i_x * per_wavelength, q_y + i_y * per_wavelength, q_z + i_z * per_wavelength
            size = math.sqrt(s_x * s_x + s_y * s_y + s_z * s_z)
            zeta = size - per_wavelength
            if abs(zeta) < abs(nearest):
                nearest = zeta
            if abs(zeta) > reach:
                continue
            star, cell = stars[orientation], cells[orientation]
            volume, inverse_metric = volumes[orientation], inverse_metrics[orientation]
            n_x, n_y, n_z = s_x / size, s_y / size, s_z / size
            # The sphere's plane lies at -zeta from the point.
            if lattice.shape == SQUARE:
                fringes = square_slice(n_x, n_y, n_z, -zeta, star, counts, volume, piece)
            else:
                root_det = root_dets[orientation]
                fringes = metric_slice(lattice.shape, n_x, n_y, n_z, -zeta, inverse_metric, root_det, piece)
            if abs(fringes) > REACH or piece[0] <= 0.0 or not is_own(cell, piece[1], piece[2], piece[3]):
                continue
            d_x, d_y, d_z = s_x + piece[1], s_y + piece[2], s_z + piece[3]
            size = math.sqrt(d_x * d_x + d_y * d_y + d_z * d_z)
            d_x, d_y, d_z = d_x / size, d_y / size, d_z / size
            captured = place_spot(panel, rules.per_term, d_x, d_y, d_z, point)
            if captured < 0.0:
                continue
            near_weights += share
            # d^2 q = solid angle / wavelength^2 on the sphere
            share *= captured * wavelength[source] * wavelength[source]
            if panel.polarized:
                share *= walk.polarization(panel, i_x, i_y, i_z, d_x, d_y, d_z)
            photons += share * piece[0]
            fast += share * piece[0] * point[0]
            slow += share * piece[0] * point[1]
            if lattice.shape == SQUARE:
                possible += share * square_peak(n_x, n_y, n_z, star, counts, volume)
            else:
                possible += share * metric_peak(lattice.shape, n_x, n_y, n_z, inverse_metric, root_dets[orientation])
    if photons <= 0.0:
        return False
    out[FAST] = fast / photons / panel.pitch_fast
    out[SLOW] = slow / photons / panel.pitch_slow
    # Steps out of reach count among those that could have been on the sphere.
    out[PARTIALITY] = photons / (possible * (all_weights / near_weights))
    # The scale divides by the sub-pixels too, but the integral is over whole pixels.
    strength = f_cell * f_cell
    if dispersion is not None:
        strength = 1.0  # each share has its own
    photons *= strength * all_cells * all_cells * rules.scale * panel.oversample * panel.oversample
    at_fast, at_slow = math.floor(out[FAST]), math.floor(out[SLOW])
    if not (0 <= at_fast < panel.n_fast and 0 <= at_slow < panel.n_slow):
        return False
    out[FAST] += panel.first_column
    out[SLOW] += panel.first_row
    at_fast, at_slow = at_fast + panel.first_column, at_slow + panel.first_row
    if photons < threshold or not (roi[0] <= at_fast <= roi[1] and roi[2] <= at_slow <= roi[3]):
        return False
    if mask.size > 0 and not mask[int(at_slow), int(at_fast)]:
        return False
    out[H], out[K], out[L] = h, k, l
    out[PHOTONS] = photons
    out[EXCITATION] = nearest
    return True


@serial_kernel
def is_own(cell, x, y, z):
    """Tell whether a displacement from a reciprocal lattice point leaves it the nearest one, in indices."""
    along_a = abs(cell[0] * x + cell[1] * y + cell[2] * z)
    along_b = abs(cell[3] * x + cell[4] * y + cell[5] * z)
    along_c = abs(cell[6] * x + cell[7] * y + cell[8] * z)
    return max(along_a, along_b, along_c) <= 0.5


@serial_kernel
def forms(cells, stars, inverse_gram):
    """Return what ``measure_spot`` needs of every orientation: volume, inverse metric, root of its determinant."""
    n = len(cells)
    volumes, inverse_metrics, root_dets = np.empty(n), np.empty((n, 3, 3)), np.empty(n)
    for i in range(n):
        volumes[i] = determinant_of_rows(cells[i])
        invert_metric(stars[i], inverse_gram, inverse_metrics[i])
        root_dets[i] = 1.0 / math.sqrt(determinant(inverse_metrics[i]))
    return volumes, inverse_metrics, root_dets


@serial_kernel
def invert_metric(star, inverse_gram, out):
    """Fill out with B G^-1 B^T: the inverse of the squared radius' form, for displacements in 1/m."""
    for i in range(3):
        for j in range(3):
            total = 0.0
            for m in range(3):
                for n in range(3):
                    total += star[i, m] * inverse_gram[m, n] * star[j, n]
            out[i, j] = total


@serial_kernel
def determinant_of_rows(cell):
    """Volume of a cell, m^3, from its nine numbers a, b, c."""
    return abs(
        cell[0] * (cell[4] * cell[8] - cell[5] * cell[7])
        - cell[1] * (cell[3] * cell[8] - cell[5] * cell[6])
        + cell[2] * (cell[3] * cell[7] - cell[4] * cell[6])
    )


@serial_kernel
def determinant(m):
    """Determinant of a 3 x 3 matrix."""
    return (
        m[0, 0] * (m[1, 1] * m[2, 2] - m[1, 2] * m[2, 1])
        - m[0, 1] * (m[1, 0] * m[2, 2] - m[1, 2] * m[2, 0])
        + m[0, 2] * (m[1, 0] * m[2, 1] - m[1, 1] * m[2, 0])
    )
