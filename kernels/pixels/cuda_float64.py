"""The float64 sum of a pixel on a GPU: every option, in the order of operations of the CPU's (float64)."""

from typing import NamedTuple

from bragg_numba.kernels._jit_cuda import gpu_function
from bragg_numba.kernels.pixels.cuda_functions import physics, walk
from bragg_numba.kernels.pixels.cuda_steps import ROUND_STEPS
from numba import int32, uint32


class ExactKind(NamedTuple):
    """What a float64 kernel is compiled for: the compiler knows it, so that branches on it vanish."""

    shape: int
    has_table: bool
    interpolate: bool
    curved: bool
    several: bool = False  #: panels come as an array, not as the numbers of one


class Sums(NamedTuple):
    """A pixel's sum, the factors that its terms did not carry themselves, and how often interpolation missed."""

    total: float
    captured: float
    polar: float
    omega: float
    share: float  #: sum of walk.share_of_term
    missed: int


class Parts(NamedTuple):
    """Which parts of a pixel's rounds of steps are summed."""

    bits: int
    rounds: int  #: of a part


class Count(NamedTuple):
    """Which part the last step fell into, how many rounds of it have begun, and steps of the last of them."""

    part: int
    rounds: int
    steps: int


#: More rounds than any pixel has: all of them are one part.
ALL_ROUNDS = 1 << 62


@gpu_function
def aim_at_pixel(curved, panel, row, column, sub, depth):
    """Unit vector to a sub-pixel, and its distance."""
    fast, slow = walk.subpixel_place(panel, row, column, sub // panel.oversample, sub % panel.oversample)
    x, y, z = physics.pixel_position(curved, panel, fast, slow, depth)
    return walk.direction(x, y, z)


@gpu_function
def term_of_step(kind, lattice, lookup, table, cells, step, q_x, q_y, q_z):
    """F^2 times the square of the lattice factor, that over its largest value, and 1 where interpolation missed."""
    volume = lattice.n_a * lattice.n_b * lattice.n_c
    h, k, l = walk.indices(  # noqa: E741
        cells[step, uint32(0)],
        cells[step, uint32(1)],
        cells[step, uint32(2)],
        cells[step, uint32(3)],
        cells[step, uint32(4)],
        cells[step, uint32(5)],
        cells[step, uint32(6)],
        cells[step, uint32(7)],
        cells[step, uint32(8)],
        q_x,
        q_y,
        q_z,
    )
    square = walk.lattice_factor(kind.shape, lattice, h, k, l)
    f_cell, outside = walk.structure_factor(kind.has_table, kind.interpolate, lookup, table, h, k, l)
    return f_cell * f_cell * (volume * volume * square), square, outside


@gpu_function
def count_step(count, part_rounds):
    """Count one step more: it may begin a round, and that a part."""
    if count.steps < ROUND_STEPS:
        return Count(count.part, count.rounds, int32(count.steps + 1))
    if count.rounds < part_rounds:
        return Count(count.part, count.rounds + 1, int32(1))
    return Count(int32(count.part + 1), 1, int32(1))


@gpu_function
def end_round(count):
    """Let the next step begin a round: the first of a sub-pixel does and, where sources have weights, of a source."""
    return Count(count.part, count.rounds, int32(ROUND_STEPS))


@gpu_function
def sum_pixel(kind, panel, lattice, lookup, rules, sources, cells, table, row, column, start, parts):
    """Sum a pixel's terms from ``start`` on; only those of some parts."""
    incident, wavelength = sources.incident, sources.wavelength
    total, shares, missed = start, 0.0, 0
    captured, polar, omega = 1.0, walk.first_polarization(panel), 1.0
    count = Count(int32(0), 0, int32(ROUND_STEPS))
    for layer in range(panel.layers):
        depth = layer * panel.layer_step
        for sub in range(panel.oversample * panel.oversample):
            d_x, d_y, d_z, airpath = aim_at_pixel(kind.curved, panel, row, column, sub, depth)
            if walk.needs_capture(rules, sub):
                captured = walk.capture(kind.curved, panel, rules, layer, d_x, d_y, d_z)
            if walk.needs_solid_angle(rules, layer, sub):
                near = walk.near_plane(panel, rules, depth)
                omega = physics.solid_angle(airpath, panel.pitch_fast, panel.height, near, panel.point_pixel)
            count = end_round(count)
            for source in range(wavelength.shape[0]):
                at = uint32(source)
                i_x, i_y, i_z = incident[at, uint32(0)], incident[at, uint32(1)], incident[at, uint32(2)]
                q_x, q_y, q_z = physics.scattering_vector(d_x, d_y, d_z, i_x, i_y, i_z, wavelength[at])
                keep = walk.keep_within_dmin(panel, q_x, q_y, q_z)
                if walk.needs_polarization(panel, rules, keep, polar):
                    polar = walk.polarization(panel, i_x, i_y, i_z, d_x, d_y, d_z)
                if rules.per_term:
                    share = walk.share_of_term(omega, polar, captured, sources.weight[at])
                    shares += share
                    keep *= share
                else:
                    keep *= sources.weight[at]
                if rules.weighted:
                    count = end_round(count)
                for step in range(cells.shape[0]):
                    count = count_step(count, parts.rounds)
                    if parts.bits >> count.part & 1 == 0:
                        continue
                    term, square, outside = term_of_step(
                        kind, lattice, lookup, table, cells, uint32(step), q_x, q_y, q_z
                    )
                    missed += outside
                    if rules.running:
                        total = walk.add_running(rules, total, term, square, keep, captured, polar, omega)
                    else:
                        total += keep * term
    return Sums(total, captured, polar, omega, shares, missed)


@gpu_function
def photons_of_sums(panel, rules, n_sources, sums, share):
    """Photons of a pixel; ``share`` is that of ``sums``, or 0 where the flat background is there already."""
    return walk.finish(panel, rules, n_sources, sums.total, sums.captured, sums.polar, sums.omega, share)
