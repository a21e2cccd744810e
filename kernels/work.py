"""The work list: which tiles of which panels a kernel renders, one row a tile.

A region of interest, a mask, several panels, boxes around spots and lists of pixels in doubt all end as rows of one
int32 array. ``bragg_numba/plan/work.py`` makes it; kernels ask nothing else about what is wanted, but for the mask
inside a tile.
"""

from bragg_numba.kernels._jit import device_function
from bragg_numba.kernels.parameters import Panel

#: Columns of the list: the panel; the tile's first row and column in it; and its wanted pixels, rows TOP to before
#: BOTTOM and columns LEFT to before RIGHT, in the panel too. Tiles are counted from the panel's first pixel, so that
#: what a pixel gets does not depend on what else is wanted. Of how many rows and columns a tile is, the kernel knows.
PANEL, ROW, COLUMN, TOP, BOTTOM, LEFT, RIGHT = range(7)
N_COLUMNS = 7


@device_function
def panel_at(panels, index):
    """A panel as a flat tuple from an array of PANEL_RECORD: as values, which no store of a kernel can change."""
    p = panels[index]
    return Panel(
        p["origin_x"],
        p["origin_y"],
        p["origin_z"],
        p["fast_x"],
        p["fast_y"],
        p["fast_z"],
        p["slow_x"],
        p["slow_y"],
        p["slow_z"],
        p["normal_x"],
        p["normal_y"],
        p["normal_z"],
        p["beam_x"],
        p["beam_y"],
        p["beam_z"],
        p["polar_x"],
        p["polar_y"],
        p["polar_z"],
        p["pitch_fast"],
        p["pitch_slow"],
        p["height"],
        p["subpixel_fast"],
        p["subpixel_slow"],
        p["half_fast"],
        p["half_slow"],
        p["close_distance"],
        p["attenuation"],
        p["layer_step"],
        p["curve_radius"],
        p["curve_fast_sign"],
        p["curve_slow_sign"],
        p["beam_fast"],
        p["beam_slow"],
        p["kahn"],
        p["dmin"],
        p["n_fast"],
        p["n_slow"],
        p["first_row"],
        p["first_column"],
        p["oversample"],
        p["layers"],
        p["curved"],
        p["point_pixel"],
        p["polarized"],
        p["has_sensor"],
    )
