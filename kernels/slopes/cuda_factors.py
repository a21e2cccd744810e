"""What a pixel of a GPU's slopes makes of a chunk's sums: photons, and what slopes are linear in (eq. 60 to 63).

Twins of slopes/factors in scalars of one pixel. ``sums`` is float64 in global memory: 37 sums and more would not fit
the registers. They lie block by block, in rows of BLOCK pixels, a pixel's own from the place ``slot`` on: at constant
distances, or 37 addresses would lie in registers instead. All is linear in the sums over steps, so that chunks of a
beam are added one by one.
"""

from typing import NamedTuple

from bragg_numba.kernels._jit_cuda import gpu_function
from bragg_numba.kernels.pixels.cuda_functions import physics, walk
from bragg_numba.kernels.slopes.rows import (
    BLOCK,
    BRAGG,
    DECAY,
    DEPTH,
    KAHN,
    N_ROWS,
    NEAR,
    NORMAL,
    OF_SHAPE,
    PLACE,
    PLACE_FAST,
    PLACE_SLOW,
    SPREAD,
    STRAIN,
    TURN,
    VALUE,
)
from numba import uint32, uint64


class Ray(NamedTuple):
    """A sub-pixel, the direction to it and its distance."""

    x: float
    y: float
    z: float
    far: float
    row: int
    column: int
    sub: int
    layer: int


class Factors(NamedTuple):
    """Solid angle, polarization factor and captured fraction."""

    omega: float
    polar: float
    captured: float


class Beam(NamedTuple):
    """A beam as a pixel's terms meet it: their sums are those of a term of weight 1 times ``strength``."""

    strength: float  #: of sums of terms, whose sources' weights are in them or do not count here
    whole: float  #: what the sums still lack
    flat: float  #: flat background of a source of weight 1, once a beam
    together: float  #: sum of the weights of its sources
    source: int  #: the first


@gpu_function
def aim_at_subpixel(curved, panel, row, column, sub, layer):
    """The Ray of one sub-pixel at a layer of the sensor (eq. 2, 3)."""
    fast, slow = walk.subpixel_place(panel, row, column, sub // panel.oversample, sub % panel.oversample)
    x, y, z = physics.pixel_position(curved, panel, fast, slow, layer * panel.layer_step)
    d_x, d_y, d_z, far = walk.direction(x, y, z)
    return Ray(d_x, d_y, d_z, far, row, column, sub, layer)


@gpu_function
def incident_of(sources, source):
    """The direction of a source's beam: read where it is asked for, it takes no registers in between."""
    at, incident = uint32(source), sources.incident
    return incident[at, uint32(0)], incident[at, uint32(1)], incident[at, uint32(2)]


@gpu_function
def polarization_of(panel, ray, incident):
    """The polarization factor of a ray, 1 where there is none (eq. 8)."""
    if not panel.polarized:
        return 1.0
    return walk.polarization(panel, incident[0], incident[1], incident[2], ray.x, ray.y, ray.z)


@gpu_function
def slot_of(block, n_rows, thread):
    """Where the sums of a pixel begin."""
    return uint64(uint64(block) * uint64(n_rows * BLOCK) + uint64(thread))


@gpu_function
def place_of(row, slot):
    """Where a row of a pixel's sums lies."""
    return uint64(slot + uint64(row * BLOCK))


@gpu_function
def add_at(sums, row, slot, value):
    """Add to a row of a pixel's sums."""
    sums[place_of(row, slot)] += value


@gpu_function
def add_vector(sums, row, slot, x, y, z):
    """Add to three rows of a pixel's sums."""
    add_at(sums, row, slot, x)
    add_at(sums, row + 1, slot, y)
    add_at(sums, row + 2, slot, z)


@gpu_function
def across(ray, per, x, y, z):
    """``per`` times the part of a vector across the ray."""
    along = x * ray.x + y * ray.y + z * ray.z
    return per * (x - along * ray.x), per * (y - along * ray.y), per * (z - along * ray.z)


@gpu_function
def push(panel, ray, x, y, z, sums, slot):
    """Add slopes in a pixel's place to all rows that move it: origin, axes, normal, thickness (eq. 61)."""
    add_vector(sums, PLACE, slot, x, y, z)
    # Made again, for they would wait in registers.
    fast, slow = walk.subpixel_place(
        panel, ray.row, ray.column, ray.sub // panel.oversample, ray.sub % panel.oversample
    )
    add_vector(sums, PLACE_FAST, slot, fast * x, fast * y, fast * z)
    add_vector(sums, PLACE_SLOW, slot, slow * x, slow * y, slow * z)
    if ray.layer > 0:
        depth = ray.layer * panel.layer_step
        add_vector(sums, NORMAL, slot, depth * x, depth * y, depth * z)
        along = x * panel.normal_x + y * panel.normal_y + z * panel.normal_z
        add_at(sums, DEPTH, slot, ray.layer * along)


# --- slopes of the factors: rows of their own, and the slope in the pixel's place, which is returned ------


@gpu_function
def solid_angle_slope(panel, rules, ray, photons, sums, slot):
    """Slopes of the solid angle of a pixel with so many photons (eq. 61)."""
    per = -(2.0 if panel.point_pixel else 3.0) * photons / ray.far
    if not panel.point_pixel:
        slope = photons / walk.near_plane(panel, rules, ray.layer * panel.layer_step)
        add_at(sums, NEAR, slot, slope)
        if rules.per_term:
            add_at(sums, DEPTH, slot, ray.layer * slope)
    return per * ray.x, per * ray.y, per * ray.z


@gpu_function
def polarization_slope(panel, ray, incident, head, sums, slot):
    """Slopes of the polarization factor; ``head`` is photons over it (eq. 62)."""
    g, (i_x, i_y, i_z) = panel, incident
    b_x, b_y, b_z = physics.unit_cross(g.polar_x, g.polar_y, g.polar_z, i_x, i_y, i_z)
    e_x, e_y, e_z = physics.unit_cross(i_x, i_y, i_z, b_x, b_y, b_z)
    along_i = ray.x * i_x + ray.y * i_y + ray.z * i_z
    along_e = ray.x * e_x + ray.y * e_y + ray.z * e_z
    along_b = ray.x * b_x + ray.y * b_y + ray.z * b_z
    add_at(sums, KAHN, slot, -0.5 * head * (along_e * along_e - along_b * along_b))
    return across(
        ray,
        head / ray.far,
        along_i * i_x - g.kahn * (along_e * e_x - along_b * b_x),
        along_i * i_y - g.kahn * (along_e * e_y - along_b * b_y),
        along_i * i_z - g.kahn * (along_e * e_z - along_b * b_z),
    )


@gpu_function
def capture_slope(curved, panel, rules, ray, head, sums, slot):
    """Slopes of what a layer captures; ``head`` is photons over that (eq. 63)."""
    g = panel
    tilted = not (curved and rules.per_term)
    parallax = ray.x * g.normal_x + ray.y * g.normal_y + ray.z * g.normal_z if tilted else 1.0
    depth = g.layer_step * g.attenuation / parallax
    _, slope = physics.capture_slope(ray.layer, depth)
    slope *= head * depth
    add_at(sums, DECAY, slot, slope / g.attenuation)
    add_at(sums, DEPTH, slot, slope / g.layer_step)
    per = -slope / parallax if tilted else 0.0
    add_vector(sums, NORMAL, slot, per * ray.x, per * ray.y, per * ray.z)
    return across(ray, per / ray.far, g.normal_x, g.normal_y, g.normal_z)


# --- once a chunk of steps --------------------------------------------------------------------------------


@gpu_function
def add_crystal(wanted, ray, incident, head, chunk, sums, slot):
    """Add what a chunk's sums bring by way of the crystal; ``head`` multiplies them (eq. 60)."""
    c = chunk
    add_at(sums, BRAGG, slot, head * c.term)
    if wanted.strain:
        add_vector(sums, STRAIN, slot, head * c.hh, head * c.hk, head * c.hl)
        add_vector(sums, STRAIN + 3, slot, head * c.kh, head * c.kk, head * c.kl)
        add_vector(sums, STRAIN + 6, slot, head * c.lh, head * c.lk, head * c.ll)
    if wanted.shape:
        add_vector(sums, OF_SHAPE, slot, head * c.shape_0, head * c.shape_1, head * c.shape_2)
        add_vector(sums, OF_SHAPE + 3, slot, head * c.shape_3, head * c.shape_4, head * c.shape_5)
    if wanted.spread:
        add_at(sums, SPREAD, slot, head * c.spread)
    if wanted.turn:
        x, y, z = head * (ray.x - incident[0]), head * (ray.y - incident[1]), head * (ray.z - incident[2])
        turn_x, turn_y, turn_z = c.aim_y * z - c.aim_z * y, c.aim_z * x - c.aim_x * z, c.aim_x * y - c.aim_y * x
        add_vector(sums, TURN, slot, turn_x, turn_y, turn_z)


@gpu_function
def add_moves(beam, head, chunk, n_moves, moves, sums, slot):
    """Add the slopes in moves of one source: of its weight, and of its wavelength (eq. 64)."""
    trace = float(chunk.hh) + float(chunk.kk) + float(chunk.ll)
    at = uint32(beam.source)
    for move in range(n_moves):
        weight, wave = moves.weights[at, uint32(move)], moves.waves[at, uint32(move)]
        moved = beam.strength * (weight * chunk.term - beam.together * wave * trace)
        add_at(sums, N_ROWS + move, slot, head * (moved + beam.flat * weight))


@gpu_function
def add_chunk(curved, wanted, panel, rules, sources, ray, beam, factors, chunk, n_moves, moves, sums, slot):
    """Add a chunk of a beam to a pixel's sums."""
    f, incident = factors, incident_of(sources, beam.source)
    head = f.omega * f.polar * f.captured if rules.per_term else 1.0
    add_moves(beam, head, chunk, n_moves, moves, sums, slot)
    strength = beam.strength * beam.whole
    photons = strength * chunk.term + beam.flat * beam.together
    if rules.per_term:
        add_at(sums, VALUE, slot, photons * head)
    add_crystal(wanted, ray, incident, strength * head, chunk, sums, slot)
    if wanted.detector:
        p_x, p_y, p_z = across(ray, strength * head / ray.far, chunk.aim_x, chunk.aim_y, chunk.aim_z)
        if rules.per_term:
            x, y, z = solid_angle_slope(panel, rules, ray, photons * head, sums, slot)
            p_x, p_y, p_z = p_x + x, p_y + y, p_z + z
            if panel.polarized:
                over = photons * f.omega * f.captured
                x, y, z = polarization_slope(panel, ray, incident, over, sums, slot)
                p_x, p_y, p_z = p_x + x, p_y + y, p_z + z
            if panel.has_sensor:
                x, y, z = capture_slope(curved, panel, rules, ray, photons * f.omega * f.polar, sums, slot)
                p_x, p_y, p_z = p_x + x, p_y + y, p_z + z
        push(panel, ray, p_x, p_y, p_z, sums, slot)


# --- once a pixel, under nanobragg ------------------------------------------------------------------------


@gpu_function
def finish_nanobragg(curved, wanted, panel, rules, sources, row, column, first, n_moves, sums, slot):
    """Multiply a pixel's sums by the factors that nanoBragg keeps, and add the slopes of these (eq. 21, 61).

    The solid angle is that of the first sub-pixel, the captured fraction that of the last layer, the polarization
    factor that of the first term within dmin: number ``first``, -1 if there is none.
    """
    photons = rules.scale * rules.background + sums[place_of(BRAGG, slot)]
    sums[place_of(VALUE, slot)] = photons
    subs, n_sources = panel.oversample * panel.oversample, sources.wavelength.shape[0]
    polar, number = 1.0, max(first, 0)
    incident, sub = incident_of(sources, number % n_sources), number // n_sources
    of_polar = aim_at_subpixel(curved, panel, row, column, sub % subs, sub // subs)
    if panel.polarized:
        polar = polarization_of(panel, of_polar, incident) if first >= 0 else 0.0
    last = aim_at_subpixel(curved, panel, row, column, 0, panel.layers - 1)
    captured = walk.capture(curved, panel, rules, last.layer, last.x, last.y, last.z)
    front = aim_at_subpixel(curved, panel, row, column, 0, 0)
    omega = physics.solid_angle(front.far, panel.pitch_fast, panel.height, panel.close_distance, panel.point_pixel)
    for place in range(N_ROWS + n_moves):
        sums[place_of(place, slot)] *= omega * polar * captured
    if wanted.detector:
        x, y, z = solid_angle_slope(panel, rules, front, photons * omega * polar * captured, sums, slot)
        push(panel, front, x, y, z, sums, slot)
        if panel.polarized and first >= 0:
            x, y, z = polarization_slope(panel, of_polar, incident, photons * omega * captured, sums, slot)
            push(panel, of_polar, x, y, z, sums, slot)
        if panel.has_sensor:
            x, y, z = capture_slope(curved, panel, rules, last, photons * omega * polar, sums, slot)
            push(panel, last, x, y, z, sums, slot)
