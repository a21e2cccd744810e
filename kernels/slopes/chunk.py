"""Steps in float32: of a block, what does not depend on the pixel is made for a chunk of steps at a time (eq. 70).

The phases at the middle of a block, and their changes from column to column and from row to row, are float64, and split
(eq. 32): each has a coarse part that float32 holds exactly, and so do sums of whole multiples of it. A pixel adds up
coarse parts and fine ones apart. Steps whose spots no pixel of the block sees are left out (eq. 35).
"""

import math

import numpy as np
from bragg_numba.kernels import physics, walk
from bragg_numba.kernels._jit import device_function, fused_kernel, serial_kernel
from bragg_numba.kernels.parameters import SHARE_OF_CELL, SQUARE
from bragg_numba.kernels.slopes.rows import (
    ACROSS,
    AIM_X,
    AIM_Y,
    AIM_Z,
    AMPLITUDE,
    AT_COLUMN,
    AT_ROW,
    BEND_X,
    BEND_Y,
    BEND_Z,
    BLOCK,
    CELL,
    CHUNK,
    D_H,
    D_K,
    D_L,
    DOWN,
    LIVE,
    SHARE,
    SPIN,
    STEP_CELL,
    STEP_H,
    STEP_K,
    STEP_L,
    STRIDE,
    SUM_AIM,
    SUM_SHAPE,
    SUM_SPREAD,
    SUM_STRAIN,
    SUM_TERM,
    T_H,
    T_K,
    T_L,
    WAVES_H,
    WAVES_K,
    WAVES_L,
    Y_H,
    Y_K,
    Y_L,
    H,
    K,
    L,
)
from bragg_numba.kernels.slopes.steps import LISTED, flush, split_phases

#: A phase further from a whole number may round to either neighbour in float32: float64 settles it.
NEAR_HALF = np.float32(0.5 - 4e-6)

#: Steps are prepared in vectors of this many.
_TOGETHER = 8


# --- a block ---------------------------------------------------------------------------------------


@serial_kernel
def ray_at(panel, row, column, sub_slow, sub_fast, depth):
    """Direction of a sub-pixel."""
    fast, slow = walk.subpixel_place(panel, row, column, sub_slow, sub_fast)
    x, y, z = physics.pixel_position(panel.curved, panel, fast, slow, depth)
    x, y, z, _ = walk.direction(x, y, z)
    return x, y, z


@fused_kernel
def lay_out_block(panel, sub_slow, sub_fast, depth, step, exact):
    """Fill ACROSS and DOWN, columns and rows from the block's middle, and BEND, what a direction is besides.

    Returns (direction of the middle, its change per column, per row, largest ACROSS, DOWN and length of BEND).
    """
    top, bottom = exact[AT_ROW], exact[AT_ROW]
    left, right = exact[AT_COLUMN], exact[AT_COLUMN]
    for pixel in range(BLOCK):
        top, bottom = min(top, exact[AT_ROW + pixel]), max(bottom, exact[AT_ROW + pixel])
        left, right = min(left, exact[AT_COLUMN + pixel]), max(right, exact[AT_COLUMN + pixel])
    row, column = math.floor(0.5 * (top + bottom)), math.floor(0.5 * (left + right))
    c_x, c_y, c_z = ray_at(panel, row, column, sub_slow, sub_fast, depth)
    f_x, f_y, f_z = ray_at(panel, row, column + 1.0, sub_slow, sub_fast, depth)
    b_x, b_y, b_z = ray_at(panel, row, column - 1.0, sub_slow, sub_fast, depth)
    f_x, f_y, f_z = 0.5 * (f_x - b_x), 0.5 * (f_y - b_y), 0.5 * (f_z - b_z)
    s_x, s_y, s_z = ray_at(panel, row + 1.0, column, sub_slow, sub_fast, depth)
    b_x, b_y, b_z = ray_at(panel, row - 1.0, column, sub_slow, sub_fast, depth)
    s_x, s_y, s_z = 0.5 * (s_x - b_x), 0.5 * (s_y - b_y), 0.5 * (s_z - b_z)
    largest = 0.0
    for pixel in range(BLOCK):
        across, down = exact[AT_COLUMN + pixel] - column, exact[AT_ROW + pixel] - row
        x = exact[AIM_X + pixel] - c_x - across * f_x - down * s_x
        y = exact[AIM_Y + pixel] - c_y - across * f_y - down * s_y
        z = exact[AIM_Z + pixel] - c_z - across * f_z - down * s_z
        step[ACROSS + pixel], step[DOWN + pixel] = across, down
        step[BEND_X + pixel], step[BEND_Y + pixel], step[BEND_Z + pixel] = x, y, z
        largest = max(largest, x * x + y * y + z * z)
    wide, tall = max(right - column, column - left), max(bottom - row, row - top)
    return (c_x, c_y, c_z), (f_x, f_y, f_z), (s_x, s_y, s_z), wide, tall, math.sqrt(largest)


# --- a chunk of steps ------------------------------------------------------------------------------


@fused_kernel
def list_steps(first, n, source, alone, sources, axes, spins, spread, step, exact):
    """Fill CELL with a, b, c over the wavelength of n steps of a beam from its ``first`` on, and SHARE, and SPIN.

    ``axes`` and ``spins`` are those of parameters.cells and Beams, transposed; ``source`` is the beam's first one, and
    ``alone`` whether it is its only one.
    """
    done, of_source = 0, axes.shape[1]
    while done < n:
        of, cell = source + (first + done) // of_source, (first + done) % of_source
        run = min(of_source - cell, n - done)
        per, weight = 1.0 / sources.wavelength[of], 1.0 if alone else sources.weight[of]
        to, cell = np.uint64(done), np.uint64(cell)
        for i in range(9):
            row = np.uint64(i * STRIDE) + to
            for number in range(run):
                over = axes[i, cell + np.uint64(number)] * per
                exact[np.uint64(CELL) + row + np.uint64(number)] = over
                step[np.uint64(STEP_CELL) + row + np.uint64(number)] = over
        for number in range(run):
            exact[np.uint64(SHARE) + to + np.uint64(number)] = weight * axes[SHARE_OF_CELL, cell + np.uint64(number)]
        if spread:
            for i in range(9):
                row = np.uint64(SPIN + i * STRIDE) + to
                for number in range(run):
                    step[row + np.uint64(number)] = spins[i, cell + np.uint64(number)]
        done += run


@device_function
def prepare_axis(row, to, n, margin, toward, pace, stride, step, exact, places):
    """Fill seven rows of steps of one index: nearest whole number, coarse and fine part; those of its two changes.

    LIVE becomes 0 where no pixel of the block comes within ``margin`` of a whole number.
    """
    q_x, q_y, q_z, wide, tall, bend = toward
    for number in range(n):
        x, y, z = exact[row + number], exact[row + STRIDE + number], exact[row + 2 * STRIDE + number]
        h = x * q_x + y * q_y + z * q_z
        along = x * pace[0] + y * pace[1] + z * pace[2]
        down = x * stride[0] + y * stride[1] + z * stride[2]
        whole, coarse, fine = physics.split_phase(h)
        step[to + number] = whole
        step[to + STRIDE + number] = coarse
        step[to + 2 * STRIDE + number] = fine
        reach = abs(along) * wide + abs(down) * tall + (abs(x) + abs(y) + abs(z)) * bend
        seen = abs(h - whole) <= reach + margin
        places[LIVE + number] = np.int32(places[LIVE + number] & np.int32(seen))
        coarse, fine = physics.split_change(along)
        step[to + 3 * STRIDE + number] = coarse
        step[to + 4 * STRIDE + number] = fine
        coarse, fine = physics.split_change(down)
        step[to + 5 * STRIDE + number] = coarse
        step[to + 6 * STRIDE + number] = fine


@fused_kernel
def prepare_steps(n, frame, incident, margins, step, exact, places):
    """Prepare the n steps of list_steps for a block with the ``frame`` of lay_out_block; list the live ones in LIVE.

    Returns how many these are.
    """
    middle, pace, stride, wide, tall, bend = frame
    toward = (middle[0] - incident[0], middle[1] - incident[1], middle[2] - incident[2], wide, tall, bend)
    whole = min(CHUNK, (n + _TOGETHER - 1) // _TOGETHER * _TOGETHER)  # what lies beyond n is left from before
    for number in range(whole):
        places[LIVE + number] = np.int32(1)
    prepare_axis(CELL, STEP_H, whole, margins[0], toward, pace, stride, step, exact, places)
    prepare_axis(CELL + 3 * STRIDE, STEP_K, whole, margins[1], toward, pace, stride, step, exact, places)
    prepare_axis(CELL + 6 * STRIDE, STEP_L, whole, margins[2], toward, pace, stride, step, exact, places)
    found = 0
    for number in range(n):
        live = places[LIVE + number]
        places[LIVE + found] = np.int32(number)
        found += live
    return found


# --- phases of the pixels --------------------------------------------------------------------------


@device_function
def parts_of_step(row, cell, number, step):
    """What phases_of_pixel needs of one index of a step."""
    return (
        step[row + number],
        step[row + STRIDE + number],
        step[row + 2 * STRIDE + number],
        step[row + 3 * STRIDE + number],
        step[row + 4 * STRIDE + number],
        step[row + 5 * STRIDE + number],
        step[row + 6 * STRIDE + number],
        step[cell + number],
        step[cell + STRIDE + number],
        step[cell + 2 * STRIDE + number],
    )


@device_function
def phase_of_pixel(parts, across, down, x, y, z):
    """One index at a pixel: its nearest whole number, and what remains of its coarse and its fine part."""
    whole, coarse, fine, coarse_across, fine_across, coarse_down, fine_down, a_x, a_y, a_z = parts
    coarse = coarse + across * coarse_across + down * coarse_down
    fine = (a_x * x + a_y * y + a_z * z) + (across * fine_across + down * fine_down) + fine
    near = np.rint(coarse + fine)
    return whole + near, coarse - near, fine


@device_function
def turns_of_pixel(parts, n, across, down, x, y, z):
    """One index at a pixel: itself, less its nearest whole number, n times that less its own, and that number."""
    near, left, fine = phase_of_pixel(parts, across, down, x, y, z)
    d = left + fine
    waves = np.rint(n * d)
    # n times what is left of the coarse part is exact: near a peak this is n d to the last bits (eq. 33).
    return near + d, d, n * fine + (n * left - waves), waves


@device_function
def place_of_pixel(h, k, l, lookup):  # noqa: E741
    """Place of whole indices in a flat table; what lies outside falls on its border."""
    t = lookup
    zero = np.float32(0.0)
    i = np.int32(min(max(h - np.float32(t.h_first), zero), np.float32(t.h_count - 1)))
    j = np.int32(min(max(k - np.float32(t.k_first), zero), np.float32(t.k_count - 1)))
    m = np.int32(min(max(l - np.float32(t.l_first), zero), np.float32(t.l_count - 1)))
    return np.int32(np.int32(np.int32(i * np.int32(t.k_count)) + j) * np.int32(t.l_count)) + m


@device_function
def phases_of_step(square, listed, number, counts, lookup, step, places):
    """Fill the rows of h, k, l of one step, of ``square`` crystals T and WAVES, too, where ``listed`` the places.

    Returns whether some pixel is so near to a half that float32 cannot tell its nearest index.
    """
    of_h = parts_of_step(STEP_H, STEP_CELL, number, step)
    of_k = parts_of_step(STEP_K, STEP_CELL + 3 * STRIDE, number, step)
    of_l = parts_of_step(STEP_L, STEP_CELL + 6 * STRIDE, number, step)
    n_a, n_b, n_c = counts
    doubts = np.int32(0)
    for pixel in range(BLOCK):
        across, down = step[ACROSS + pixel], step[DOWN + pixel]
        x, y, z = step[BEND_X + pixel], step[BEND_Y + pixel], step[BEND_Z + pixel]
        h, left_h, fine_h = phase_of_pixel(of_h, across, down, x, y, z)
        k, left_k, fine_k = phase_of_pixel(of_k, across, down, x, y, z)
        l, left_l, fine_l = phase_of_pixel(of_l, across, down, x, y, z)  # noqa: E741
        d_h, d_k, d_l = left_h + fine_h, left_k + fine_k, left_l + fine_l
        step[D_H + pixel], step[D_K + pixel], step[D_L + pixel] = d_h, d_k, d_l
        step[H + pixel], step[K + pixel], step[L + pixel] = h + d_h, k + d_k, l + d_l
        if square:
            waves_h, waves_k, waves_l = np.rint(n_a * d_h), np.rint(n_b * d_k), np.rint(n_c * d_l)
            step[WAVES_H + pixel], step[WAVES_K + pixel], step[WAVES_L + pixel] = waves_h, waves_k, waves_l
            # n times what is left of the coarse part is exact: near a peak this is n d to the last bits (eq. 33).
            step[T_H + pixel] = n_a * fine_h + (n_a * left_h - waves_h)
            step[T_K + pixel] = n_b * fine_k + (n_b * left_k - waves_k)
            step[T_L + pixel] = n_c * fine_l + (n_c * left_l - waves_l)
        if listed:
            places[pixel] = place_of_pixel(h, k, l, lookup)
        doubts = np.int32(doubts | np.int32(max(abs(d_h), max(abs(d_k), abs(d_l))) > NEAR_HALF))
    return doubts != 0


@fused_kernel
def fill_waves(counts, step):
    """Fill WAVES from D and T."""
    n_a, n_b, n_c = counts
    for pixel in range(BLOCK):
        step[WAVES_H + pixel] = np.rint(n_a * step[D_H + pixel] - step[T_H + pixel])
        step[WAVES_K + pixel] = np.rint(n_b * step[D_K + pixel] - step[T_K + pixel])
        step[WAVES_L + pixel] = np.rint(n_c * step[D_L + pixel] - step[T_L + pixel])


# --- lattice factors, slopes and their sums ---------------------------------------------------------


@fused_kernel
def fill_amplitudes(weight, squares, step, places):
    """Fill AMPLITUDE with |F|^2 of the places times a weight."""
    for pixel in range(BLOCK):
        # An unsigned index: a signed one could count from the end, which costs more than the look-up.
        step[AMPLITUDE + pixel] = weight * squares[np.uint32(places[pixel])]


@fused_kernel
def fill_weight(weight, step):
    """Fill AMPLITUDE with a weight."""
    for pixel in range(BLOCK):
        step[AMPLITUDE + pixel] = weight


@device_function
def square_at(pixel, counts, step):
    """physics.square_slopes_single at a pixel."""
    d = (step[D_H + pixel], step[D_K + pixel], step[D_L + pixel])
    t = (step[T_H + pixel], step[T_K + pixel], step[T_L + pixel])
    waves = (step[WAVES_H + pixel], step[WAVES_K + pixel], step[WAVES_L + pixel])
    return physics.square_slopes_single(d, t, waves, counts, step[AMPLITUDE + pixel])


@fused_kernel
def add_square_values(counts, step):
    """Add the terms of a square crystal to SUM_TERM (eq. 13)."""
    for pixel in range(BLOCK):
        step[SUM_TERM + pixel] += square_at(pixel, counts, step)[0]


@device_function
def add_outer(pixel, h, k, l, y_h, y_k, y_l, cell, step):  # noqa: E741
    """Add slopes in h, k, l times h, k, l and times a, b, c to a pixel's sums, and keep them in Y (eq. 60)."""
    a_x, a_y, a_z, b_x, b_y, b_z, c_x, c_y, c_z = cell
    step[Y_H + pixel], step[Y_K + pixel], step[Y_L + pixel] = y_h, y_k, y_l
    step[SUM_STRAIN + pixel] += y_h * h
    step[SUM_STRAIN + STRIDE + pixel] += y_h * k
    step[SUM_STRAIN + 2 * STRIDE + pixel] += y_h * l
    step[SUM_STRAIN + 3 * STRIDE + pixel] += y_k * h
    step[SUM_STRAIN + 4 * STRIDE + pixel] += y_k * k
    step[SUM_STRAIN + 5 * STRIDE + pixel] += y_k * l
    step[SUM_STRAIN + 6 * STRIDE + pixel] += y_l * h
    step[SUM_STRAIN + 7 * STRIDE + pixel] += y_l * k
    step[SUM_STRAIN + 8 * STRIDE + pixel] += y_l * l
    step[SUM_AIM + pixel] += a_x * y_h + b_x * y_k + c_x * y_l
    step[SUM_AIM + STRIDE + pixel] += a_y * y_h + b_y * y_k + c_y * y_l
    step[SUM_AIM + 2 * STRIDE + pixel] += a_z * y_h + b_z * y_k + c_z * y_l


@device_function
def nine_of_step(row, number, step):
    """Nine numbers of a step."""
    return (
        step[row + number],
        step[row + STRIDE + number],
        step[row + 2 * STRIDE + number],
        step[row + 3 * STRIDE + number],
        step[row + 4 * STRIDE + number],
        step[row + 5 * STRIDE + number],
        step[row + 6 * STRIDE + number],
        step[row + 7 * STRIDE + number],
        step[row + 8 * STRIDE + number],
    )


@fused_kernel
def add_square(number, counts, step):
    """Add the terms of a square crystal, and their slopes, to the sums (eq. 56, 57, 60)."""
    cell = nine_of_step(STEP_CELL, number, step)
    for pixel in range(BLOCK):
        term, y_h, y_k, y_l, m_h, m_k, m_l = square_at(pixel, counts, step)
        step[SUM_TERM + pixel] += term
        step[SUM_SHAPE + pixel] += m_h
        step[SUM_SHAPE + STRIDE + pixel] += m_k
        step[SUM_SHAPE + 2 * STRIDE + pixel] += m_l
        h, k, l = step[H + pixel], step[K + pixel], step[L + pixel]  # noqa: E741
        add_outer(pixel, h, k, l, y_h, y_k, y_l, cell, step)


@fused_kernel
def add_uniform_square(number, counts, weight, step):
    """phases_of_step and add_square in one, for crystals of one F: no index needs to be known, and less is kept."""
    of_h = parts_of_step(STEP_H, STEP_CELL, number, step)
    of_k = parts_of_step(STEP_K, STEP_CELL + 3 * STRIDE, number, step)
    of_l = parts_of_step(STEP_L, STEP_CELL + 6 * STRIDE, number, step)
    cell = nine_of_step(STEP_CELL, number, step)
    n_a, n_b, n_c = counts
    for pixel in range(BLOCK):
        across, down = step[ACROSS + pixel], step[DOWN + pixel]
        x, y, z = step[BEND_X + pixel], step[BEND_Y + pixel], step[BEND_Z + pixel]
        h, d_h, t_h, w_h = turns_of_pixel(of_h, n_a, across, down, x, y, z)
        k, d_k, t_k, w_k = turns_of_pixel(of_k, n_b, across, down, x, y, z)
        l, d_l, t_l, w_l = turns_of_pixel(of_l, n_c, across, down, x, y, z)  # noqa: E741
        step[H + pixel], step[K + pixel], step[L + pixel] = h, k, l
        term, y_h, y_k, y_l, m_h, m_k, m_l = physics.square_slopes_single(
            (d_h, d_k, d_l), (t_h, t_k, t_l), (w_h, w_k, w_l), counts, weight
        )
        step[SUM_TERM + pixel] += term
        step[SUM_SHAPE + pixel] += m_h
        step[SUM_SHAPE + STRIDE + pixel] += m_k
        step[SUM_SHAPE + 2 * STRIDE + pixel] += m_l
        add_outer(pixel, h, k, l, y_h, y_k, y_l, cell, step)


@fused_kernel
def add_gauss_values(metric, step):
    """Add the terms of a gauss crystal to SUM_TERM (eq. 16)."""
    for pixel in range(BLOCK):
        d_h, d_k, d_l = step[D_H + pixel], step[D_K + pixel], step[D_L + pixel]
        square = physics.quadratic_form_single(metric, d_h, d_k, d_l)
        step[SUM_TERM + pixel] += step[AMPLITUDE + pixel] * physics.gauss_single(square)


@fused_kernel
def add_gauss(number, metric, step):
    """Add the terms of a gauss crystal, and their slopes, to the sums (eq. 58, 60)."""
    cell = nine_of_step(STEP_CELL, number, step)
    hh, kk, ll, hk, hl, kl = metric
    half = np.float32(0.5)
    hk, hl, kl = half * hk, half * hl, half * kl
    for pixel in range(BLOCK):
        d_h, d_k, d_l = step[D_H + pixel], step[D_K + pixel], step[D_L + pixel]
        half_h = hh * d_h + hk * d_k + hl * d_l
        half_k = hk * d_h + kk * d_k + kl * d_l
        half_l = hl * d_h + kl * d_k + ll * d_l
        term, slope = physics.gauss_slope_single(d_h * half_h + d_k * half_k + d_l * half_l)
        term, slope = step[AMPLITUDE + pixel] * term, step[AMPLITUDE + pixel] * slope
        s_h, s_k, s_l = slope * d_h, slope * d_k, slope * d_l
        step[SUM_TERM + pixel] += term
        step[SUM_SHAPE + pixel] += s_h * d_h
        step[SUM_SHAPE + STRIDE + pixel] += s_k * d_k
        step[SUM_SHAPE + 2 * STRIDE + pixel] += s_l * d_l
        step[SUM_SHAPE + 3 * STRIDE + pixel] += s_h * d_k
        step[SUM_SHAPE + 4 * STRIDE + pixel] += s_h * d_l
        step[SUM_SHAPE + 5 * STRIDE + pixel] += s_k * d_l
        slope += slope
        h, k, l = step[H + pixel], step[K + pixel], step[L + pixel]  # noqa: E741
        add_outer(pixel, h, k, l, slope * half_h, slope * half_k, slope * half_l, cell, step)


@fused_kernel
def add_spread(number, step):
    """Add slopes in the mosaic spread, of the slopes in Y, to SUM_SPREAD (eq. 60)."""
    hh, hk, hl, kh, kk, kl, lh, lk, ll = nine_of_step(SPIN, number, step)
    for pixel in range(BLOCK):
        h, k, l = step[H + pixel], step[K + pixel], step[L + pixel]  # noqa: E741
        step[SUM_SPREAD + pixel] += (
            step[Y_H + pixel] * (hh * h + hk * k + hl * l)
            + step[Y_K + pixel] * (kh * h + kk * k + kl * l)
            + step[Y_L + pixel] * (lh * h + lk * k + ll * l)
        )


# --- all steps of a beam ----------------------------------------------------------------------------


@device_function
def cell_of_step(number, exact):
    """a, b, c over the wavelength of a step, float64."""
    return nine_of_step(CELL, number, exact)


@device_function
def sum_chunks(shape, amplitudes, nouns, first, after, incident, frame, scratch):
    """Sum the steps of a beam, ``first`` to before ``after`` being its sources; ``frame`` is lay_out_block's."""
    q, lookup, beams, wanted = nouns.lattice, nouns.lookup, nouns.beams, nouns.wanted
    step, exact, places = scratch.step, scratch.exact, scratch.places
    margins = (beams.margin_h, beams.margin_k, beams.margin_l)
    counts = (np.float32(q.n_a), np.float32(q.n_b), np.float32(q.n_c))
    metric = (
        np.float32(q.metric_hh),
        np.float32(q.metric_kk),
        np.float32(q.metric_ll),
        np.float32(q.metric_hk),
        np.float32(q.metric_hl),
        np.float32(q.metric_kl),
    )
    slopes = wanted.strain or wanted.turn or wanted.detector or wanted.shape or wanted.spread
    fits = frame[5] <= beams.bend
    steps, waiting = (after - first) * len(nouns.cells), 0
    for start in range(0, steps, CHUNK):
        n = min(CHUNK, steps - start)
        alone = after - first == 1
        list_steps(start, n, first, alone, nouns.sources, beams.axes, beams.turning, wanted.spread, step, exact)
        live = prepare_steps(n, frame, incident, margins, step, exact, places)
        if waiting + live > CHUNK:
            flush(step, exact)
            waiting = 0
        waiting += live
        for listed in range(live):
            number = np.int64(places[LIVE + listed])
            if shape == SQUARE and amplitudes != LISTED and slopes and fits:
                add_uniform_square(number, counts, np.float32(exact[SHARE + number]), step)
                if wanted.spread:
                    add_spread(number, step)
                continue
            if not fits or phases_of_step(shape == SQUARE, amplitudes == LISTED, number, counts, lookup, step, places):
                cell = cell_of_step(number, exact)
                split_phases(shape, amplitudes, cell, incident, q, lookup, step, exact, places)
                if shape == SQUARE:
                    fill_waves(counts, step)
            if amplitudes == LISTED:
                fill_amplitudes(np.float32(exact[SHARE + number]), nouns.squares, step, places)
            else:
                fill_weight(np.float32(exact[SHARE + number]), step)
            if shape == SQUARE:
                if slopes:
                    add_square(number, counts, step)
                else:
                    add_square_values(counts, step)
            elif slopes:
                add_gauss(number, metric, step)
            else:
                add_gauss_values(metric, step)
            if wanted.spread:
                add_spread(number, step)
    if waiting > 0:
        flush(step, exact)
