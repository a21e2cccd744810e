"""CrystFEL geometries: what is read, what is refused and why, and the way back into a file."""

from __future__ import annotations

import dataclasses
import math
import re
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from bragg_numba.errors import InputError
from bragg_numba.io.geom_file import parse_geom, read_geom, write_geom
from bragg_numba.io.geom_groups import MOST_CHILDREN, MOST_GROUPS, legal_names
from bragg_numba.io.geom_masks import mark_bad, read_masks
from bragg_numba.io.geometry import Geometry, GeomPanel, Quantity, panel_of_place, pixel_positions

ROOT = Path(__file__).resolve().parents[2]
OWN = sorted((ROOT / "tests" / "data").glob("*.geom"))
SHARED = ROOT.parent / "shared" / "geometries"
FILES = {path.name: path for path in [*OWN, *sorted(SHARED.glob("*.geom"))]}

needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="the collection of geometries is not beside the checkout")

#: Files of the collection that are no geometry that anybody can use, and why.
REFUSED = {
    "agipd1m_cheetah2d.geom": "line 1357: panel p0a0 must have one dimension that is ss, but has dim0 = ss, dim1 = ss",
    "agipd1m_vds_badregions.geom": "line 1783: bad_p0h1 must name its panel, bad_p0h1/panel",
    "s2e_simex.geom": "line 1 must be key = value",
}

SIMPLE = """\
photon_energy = 9000 eV
clen = 50 mm
adu_per_photon = 2
res = 10000
a/min_fs = 0
a/max_fs = 9
a/min_ss = 0
a/max_ss = 4
a/corner_x = -5
a/corner_y = 2.5
a/fs = x
a/ss = y
"""


def with_lines(*lines: str, text: str = SIMPLE) -> Geometry:
    return parse_geom(text + "\n".join(lines) + "\n")


def without(key: str) -> str:
    return "".join(line for line in SIMPLE.splitlines(keepends=True) if not line.startswith(key))


def second(*lines: str, name: str = "b", rows: tuple[int, int] = (5, 9)) -> list[str]:
    """Lines of another panel below the simple one's rows."""
    return [
        *(f"{name}/min_fs = 0", f"{name}/max_fs = 9", f"{name}/min_ss = {rows[0]}", f"{name}/max_ss = {rows[1]}"),
        *(f"{name}/corner_x = 0", f"{name}/corner_y = 0", f"{name}/fs = x", f"{name}/ss = y", *lines),
    ]


def every_value(geometry: Geometry) -> Geometry:
    """A geometry without what only tells where it was read."""

    def bare(quantity):
        return quantity and dataclasses.replace(quantity, line=0, unit="")

    # A camera length that all panels have may stand in one place or in the other.
    panels = tuple(dataclasses.replace(panel, clen=bare(panel.clen or geometry.clen)) for panel in geometry.panels)
    kept = {name: bare(getattr(geometry, name)) for name in ("wavelength", "shift_x", "shift_y")}
    # NaN, a limit that is missing, is not equal to itself.
    regions = tuple(repr(region) for region in geometry.bad_regions)
    return dataclasses.replace(geometry, panels=panels, bad_regions=regions, clen=None, unknown=(), file="", **kept)


def at_paths(geometry: Geometry) -> dict[str, float]:
    """Some number for everything that lies in a data file."""
    asked = (geometry.clen, geometry.wavelength, geometry.shift_x, geometry.shift_y, *(p.clen for p in geometry.panels))
    return {quantity.path: -123.4 for quantity in asked if quantity is not None and quantity.path is not None}


# --- positions ------------------------------------------------------------------------------------


def oracle(path: Path) -> dict[str, np.ndarray]:
    """Corner, fs and ss of every panel in metres, (3, 3), straight from the lines; camera length left out."""
    top, panels = {"coffset": "0"}, {}
    for line in path.read_text().splitlines():
        key, equals, value = (part.strip() for part in line.split(";")[0].partition("="))
        name, slash, own = key.partition("/")
        if not equals or name.startswith("bad"):
            continue
        if slash:
            panels.setdefault(name, dict(top))[own] = value
        else:
            top[key] = value

    def direction(text):
        vector = np.zeros(3)
        for sign, size, axis in re.findall(r"([+-]?)(\d*\.?\d*)([xyz])", text.replace(" ", "")):
            vector["xyz".index(axis)] += float(f"{sign}{size or 1}")
        return vector

    return {
        name: np.array(
            [
                [float(p["corner_x"]), float(p["corner_y"]), float(p["coffset"]) * float(p["res"])],
                direction(p["fs"]),
                direction(p["ss"]),
            ]
        )
        / float(p["res"])
        for name, p in panels.items()
    }


@pytest.mark.parametrize("name", sorted(FILES))
def test_every_panel_of_the_collection_lies_where_its_lines_say(name):
    if name in REFUSED:
        with pytest.raises(InputError, match=re.escape(REFUSED[name])) as caught:
            read_geom(FILES[name])
        assert str(FILES[name]) in str(caught.value)
        return
    geometry, expected = read_geom(FILES[name]), oracle(FILES[name])
    placed = geometry.place(clen_m=0.0)
    assert [panel.name for panel in placed.panels] == list(expected)
    for panel in placed.panels:
        found = np.array([panel.origin_m, panel.fast_m, panel.slow_m])
        assert np.abs(found - expected[panel.name]).max() < 1e-15
    assert sum(panel.n_fast * panel.n_slow for panel in placed.panels) <= placed.n_fast * placed.n_slow


def test_positions_are_corner_plus_half_steps_and_z_is_the_sum_of_three_lengths():
    lines = ("a/coffset = 1e-3", "a/fs = 0.5x +2z", "a/ss = -y -0.5 z", "detector_shift_x = 1 mm")
    geometry = with_lines(*lines, "detector_shift_y = -2e-3")
    placed = geometry.place()
    positions = pixel_positions(placed)
    assert positions.shape == (5, 10, 3)
    # x = p (corner + fs fsx + ss ssx) + shift, z = clen + coffset + p (...), p = 1e-4 m.
    z = 0.05 + 1e-3 + 1e-4 * (7.5 * 2 - 3.5 * 0.5)
    assert np.abs(positions[3, 7] - [1e-4 * (-5 + 3.75) + 1e-3, 1e-4 * (2.5 - 3.5) - 2e-3, z]).max() < 1e-15


def test_a_gap_between_panels_has_no_position():
    positions = pixel_positions(with_lines(*second(rows=(7, 9))).place())
    assert positions.shape == (10, 10, 3)
    assert np.isnan(positions[5:7]).all() and np.isfinite(positions[:5]).all() and np.isfinite(positions[7:]).all()


def test_modules_of_a_stack_lie_below_each_other_as_a_reshape_puts_them():
    geometry = read_geom(ROOT / "tests" / "data" / "lpd1m_extrageom.geom")
    slab, placed = geometry.slab(), geometry.place()
    assert (slab.n_slow, slab.n_fast) == (16 * 256, 256)
    stack = np.arange(16 * 256 * 256).reshape(16, 256, 256)
    for panel, at in zip(geometry.panels, placed.panels, strict=True):
        own = stack[panel.dims[1], panel.min_ss : panel.max_ss + 1, panel.min_fs : panel.max_fs + 1]
        rows = slice(at.first_slow, at.first_slow + at.n_slow)
        assert (stack.reshape(-1, 256)[rows, at.first_fast : at.first_fast + at.n_fast] == own).all()
    assert [block.fixed for block in slab.blocks] == [((1, module),) for module in range(16)]


def test_arrays_at_two_paths_lie_below_each_other():
    geometry = with_lines("a/data = /x", *second("b/data = /y", rows=(0, 2)))
    slab = geometry.slab()
    assert [(block.data, block.first_row, block.n_slow) for block in slab.blocks] == [("/x", 0, 5), ("/y", 5, 3)]
    assert geometry.place().panels[1].first_slow == 5


# --- numbers with units, and numbers that lie in a data file --------------------------------------


@pytest.mark.parametrize(
    ("line", "metres"),
    [
        ("clen = 0.0953", 0.0953),
        ("clen = 95.3 mm", 0.0953),
        ("clen = 95.3e-3 m", 0.0953),
        ("clen=67.8e-3", 0.0678),
        ("clen = /x", -0.1234),
        ("clen = /x mm", -0.1234),
        ("clen = /x m", -123.4),
    ],
)
def test_a_camera_length_is_in_metres_and_one_at_a_path_in_millimetres(line, metres):
    geometry = with_lines(line)
    assert geometry.place({"/x": -123.4}).panels[0].origin_m[2] == pytest.approx(metres, rel=1e-14)


#: h c / e of CrystFEL, eV angstrom.
HC = 6.62606896e-34 * 299792458 / 1.6021773e-19 * 1e10


@pytest.mark.parametrize(
    ("line", "angstrom"),
    [
        ("photon_energy = 9000", HC / 9000),
        ("photon_energy = 9 keV", HC / 9000),
        ("photon_energy = 9e3 eV", HC / 9000),
        ("photon_energy = /E", HC / 8000),
        ("photon_energy = /E keV", HC / 8e6),
        ("wavelength = 1.125 A", 1.125),
        ("wavelength = 1.125e-10 m", 1.125),
        ("wavelength = /E A", 8000),
        ("electron_voltage = 300 kV", 0.01968749),  # of any text on electron microscopes: 1.97 pm
        ("electron_voltage = 300000 V", 0.01968749),
    ],
)
def test_the_wavelength_is_given_in_one_of_three_ways(line, angstrom):
    assert with_lines(line).wavelength_A({"/E": 8000}) == pytest.approx(angstrom, rel=2e-6)
    # The later of two counts.
    assert parse_geom(f"wavelength = 3 A\n{line}\n" + without("photon")).wavelength_A({"/E": 8000}) == pytest.approx(
        angstrom, rel=2e-6
    )


def test_a_file_without_wavelength_or_camera_length_is_a_template():
    geometry = parse_geom(without("photon").replace("clen = 50 mm\n", "").replace("adu_per_photon = 2\n", ""))
    assert geometry.wavelength_A() is None
    with pytest.raises(InputError, match="clen is needed, and the file has none"):
        geometry.place()
    assert geometry.place(clen_m=0.25).panels[0].origin_m[2] == 0.25
    assert geometry.panels[0].adu_per_photon is geometry.panels[0].adu_per_eV is None


def test_every_panel_may_have_a_camera_length_of_its_own_as_old_files_do():
    geometry = with_lines("a/clen = 0.1", *second("b/clen = /x"))
    assert [panel.origin_m[2] for panel in geometry.place({"/x": 200.0}).panels] == [0.1, 0.2]


def test_a_value_that_is_missing_is_asked_for_by_key_line_path_and_unit():
    geometry = with_lines("clen = /LCLS/z", "photon_energy = /LCLS/E keV")
    with pytest.raises(InputError, match=r"line 13: clen lies in a data file, at /LCLS/z \(in mm\) .*give that file"):
        geometry.place()
    with pytest.raises(InputError, match=r"line 13: clen needs the value at /LCLS/z .*there is one for /other"):
        geometry.place({"/other": 3})
    with pytest.raises(InputError, match=r"line 14: photon_energy lies in a data file, at /LCLS/E \(in keV\)"):
        geometry.wavelength_A()


@pytest.mark.parametrize("value", ["9", None, [1, 2], math.nan, math.inf, "x"])
def test_values_of_a_mapping_must_be_finite_numbers(value):
    geometry = with_lines("clen = /z")
    if value == "9":
        assert geometry.place({"/z": value}).panels[0].origin_m[2] == pytest.approx(0.009)
        return
    with pytest.raises(InputError, match="line 13: clen must be a .*number at /z"):
        geometry.place({"/z": value})


@pytest.fixture
def run(tmp_path):
    with h5py.File(tmp_path / "run.h5", "w") as file:
        file["scalar"] = 80.0
        file["one"] = [[81]]
        file["each"] = np.array([82.0, 83.0, 84.0])
        file["matrix"] = np.arange(6.0).reshape(2, 1, 3)
        file["word"] = "80"
        file["empty"] = h5py.Empty("f8")
        file["a/b/z"] = [90.0, 91.0]
        file["nan"] = math.nan
    return tmp_path / "run.h5"


@pytest.mark.parametrize(
    ("path", "event", "millimetres"),
    [
        ("/scalar", None, 80.0),
        ("/scalar", 7, 80.0),
        ("/one", None, 81.0),
        ("/each", 1, 83.0),
        ("/each", "//2", 84.0),
        ("/matrix", "//1/2", 5.0),
        ("/a/%/z", "b//1", 91.0),
        ("/%/%/z", "a/b//0", 90.0),
    ],
)
def test_numbers_of_a_data_file_are_those_of_the_event(run, path, event, millimetres):
    geometry = with_lines(f"clen = {path}")
    assert geometry.place(run, event).panels[0].origin_m[2] == pytest.approx(millimetres / 1000)
    with h5py.File(run) as file:
        assert geometry.place(file, event).panels[0].origin_m[2] == pytest.approx(millimetres / 1000)


@pytest.mark.parametrize(
    ("path", "event", "rule"),
    [
        ("/nowhere", None, "needs a number at /nowhere"),
        ("/a", None, "needs a number at /a"),
        ("/word", None, "must be a number at /word"),
        ("/empty", None, "must be a number at /empty"),
        ("/each", None, "finds 3 values at /each, one for each frame"),
        ("/each", 3, "must be below 3"),
        ("/matrix", "//1", "finds 3 values"),
        ("/a/%/z", 0, "needs an event with 1 words"),
        ("/each", "2", "must be the number of a frame"),
        ("/each", -1, "must be the number of a frame"),
        ("/each", "//x", "must be the number of a frame"),
        ("/nan", None, "must be a finite number"),
    ],
)
def test_what_a_data_file_lacks_is_named(run, path, event, rule):
    with pytest.raises(InputError, match=re.escape(rule)):
        with_lines(f"clen = {path}").place(run, event)


def test_numbers_of_a_data_file_beyond_reason_are_refused():
    geometry = with_lines("clen = /z m", "photon_energy = /E")
    with pytest.raises(InputError, match=r"line 13: clen must lie between -1e\+06 and 1e\+06 m, got 1e\+300"):
        geometry.place({"/z": 1e300})
    for energy in (0.0, -9000.0, 1e-310):
        with pytest.raises(InputError, match=r"line 14: photon_energy must lie between 0.001 and 1e\+15 eV"):
            geometry.wavelength_A({"/E": energy})


def test_a_shift_that_is_no_number_is_none(run):
    geometry = with_lines("detector_shift_x = /nan", "detector_shift_y = NaN")
    assert geometry.place(run).panels[0].origin_m == with_lines().place().panels[0].origin_m


# --- syntax ---------------------------------------------------------------------------------------


def test_blanks_comments_and_line_ends_are_free():
    loose = "\ufeff".encode().decode() + SIMPLE.replace("\n", " \t; a = comment = b\r\n").replace("a/", "  \t a/")
    loose = loose.lstrip("\ufeff").replace(" = ", "=", 3) + "\n   \n\t; clen = 7\n\r"
    assert every_value(parse_geom(loose.replace("\r\n", "\n").replace("\r", "\n"))) == every_value(parse_geom(SIMPLE))


@pytest.mark.parametrize(
    ("text", "vector"),
    [
        ("x", (1, 0, 0)),
        ("-y", (0, -1, 0)),
        ("-0.0058x +0.9999y -0.01z", (-0.0058, 0.9999, -0.01)),
        ("-0.0058x+0.9999y-0.01z", (-0.0058, 0.9999, -0.01)),
        ("- 0.5 x + .25 y", (-0.5, 0.25, 0)),
        ("1.x +0.y", (1, 0, 0)),
        ("x +x -0.5x +y", (1.5, 1, 0)),
        ("z -x", (-1, 0, 1)),
    ],
)
def test_a_direction_is_a_sum_of_terms(text, vector):
    assert with_lines(f"a/fs = {text}", "a/ss = 7y + 3x +z").panels[0].fs == pytest.approx(vector)


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("1.7e-05x", "no exponents"),
        ("1", ""),
        ("", ""),
        ("x y", ""),
        ("+-x", ""),
        ("x +", ""),
        ("1.2.3x", ""),
        (".x", ""),
        ("X", ""),
        ("x,y", ""),
        ("x\ty", ""),
        ("0x +0y", ""),
        ("9" * 400 + "x", ""),
    ],
)
def test_what_is_no_direction_is_refused_with_its_line(text, hint):
    with pytest.raises(InputError, match=f"line 13: a/fs must .*{hint}"):
        with_lines(f"a/fs = {text}")


@pytest.mark.parametrize(
    ("line", "rule"),
    [
        ("a/min_fs = 1.5", "line 13: a/min_fs must be a whole number from 0 to 2147483647, got '1.5'"),
        ("a/min_fs = -1", "must be a whole number from 0"),
        ("a/max_fs = 4294967296", "must be a whole number from 0"),
        ("a/min_ss = 5", "line 8: a/max_ss must not be below min_ss, 5, got 4"),
        ("a/corner_x = 1_000", "line 13: a/corner_x must be a number, got '1_000'"),
        ("a/corner_x = nan", "must be a number"),
        ("a/corner_y = 1e999", "must be a finite number"),
        ("a/coffset = 580 mm", "must be a number, got '580 mm' (its unit is fixed)"),
        ("a/res = 0", "must be above 0"),
        ("a/res = -10", "must be above 0"),
        ("a/res = 1e-310", "must not be below 1e-12"),
        ("a/ss = 3x", "line 13: a/ss must not be along fs, x"),
        ("a/adu_per_photon = 0", "must be above 0"),
        ("a/adu_per_eV = 8.6505-05", "must be a number"),
        ("a/corner_x = 1e10", "must not be beyond 1e+09, got '1e10'"),
        ("a/fs = 10000000x", "must not have components beyond 1e+06"),
        ("clen = 2e6", "must lie between -1e+06 and 1e+06 m"),
        ("a/no_index = maybe", "must be true, false or a number"),
        ("a/dim0 = fs", "must have one dimension that is ss, but has dim0 = fs, dim1 = fs"),
        ("a/dim3 = %", "must say what every dimension is, but has dim0 = ss, dim1 = fs, dim2 = nothing, dim3 = %"),
        ("a/dim1 = slow", "must be ss, fs, % or a number, got 'slow'"),
        ("a/dim16 = 3", "must be of a dimension from 0 to 15"),
        ("a/dim = 3", "is none of the keys that begin with mask or dim"),
        ("a/dimx = 3", "is none of the keys that begin with mask or dim"),
        ("a/mask8_data = /m", "must be of a mask from 0 to 7"),
        ("a/mask0_what = 3", "is none of the keys that begin with mask or dim"),
        ("a/mask_good = 0x1", "needs the mask's place, mask0_data"),
        ("a/mask3_file = m.h5", "needs the mask's place in that file, mask3_data"),
        ("a/mask = m", "must be a path in an HDF5 file"),
        ("a/mask = /m/%", "must not have more % than the data's path, /data/data"),
        ("a/mask_edge_pixels = -3", "must be a whole number from 0"),
        ("a/flag_equal = x", "must be a number"),
        ("clen = 50 cm", "line 13: clen must have the unit m or mm, after one blank"),
        ("clen = 50  mm", "must have the unit m or mm, after one blank"),
        ("clen = 50\tmm", "must be a number, or a path"),
        ("clen = abc", "must be a number, or a path in the data file, which begins with /"),
        ("clen = /", "must name something in a data file"),
        ("clen =", "line 13: clen must have a value"),
        ("wavelength = 1.1", "must have a unit, m or A"),
        ("wavelength = 1.1 nm", "must have the unit m or A"),
        ("electron_voltage = 300000", "must have a unit, V or kV"),
        ("photon_energy = 9 MeV", "must have the unit eV or keV"),
        ("photon_energy = 0", "must be greater than 0"),
        ("photon_energy = 1e308 keV", "must lie between 0.001 and 1e+15 eV"),
        ("bandwidth = -1", "must not be below 0"),
        ("detector_shift_x = 1", "needs a detector_shift_y beside it"),
        ("peak_list_type = hdf5", "must be auto, cxi or list3"),
        ("res = 5", "line 13: res has no effect: it stands after the last panel"),
        ("what is this", "line 13 must be key = value, got 'what is this'"),
        ("# a comment", "must be key = value, got '# a comment' (comments begin with ;)"),
        ("= 3", "must have a key"),
        ("/fs = x", "must be panel/key"),
        ("a /fs = x", "must be panel/key, without blanks around the /"),
        ("a/ fs = x", "must be panel/key, without blanks around the /"),
        ("groupa/fs = x", "no panel's name begins with group or rigid_group"),
        ("b/min_fs = 0", "line 13: panel b must give max_fs"),
        ("group_all = a,b", "must be made of panels and of groups that are defined above it, got 'b'"),
        ("group_all = a,a", "must not hold a member twice, got 'a'"),
        ("group_a = a", "must have a name of its own"),
        ("group_ = a", "must have a name"),
        ("group_b = ,", "must have members, got ','"),
        ("bad1/min_x = 3\nbad1/max_fs = 3", "must not be mixed with bad1/min_x"),
        ("bad1/min_x = c", "must be a number"),
        ("bad1/panel = a", "line 13: bad1 must give its limits"),
        ("bad1/max_fs = 10", "line 13: bad1 must lie in panel a, fs 0 to 9, got '0 to 10'"),
        ("bad1/min_fs = 3", "must lie in panel a, fs 0 to 9, got '3 to 0'"),
        ("bad1/max_fs = 3\nbad1/panel = q", "must be one of the panels, got 'q'"),
    ],
)
def test_a_line_that_breaks_a_rule_is_named_with_rule_and_value(line, rule):
    with pytest.raises(InputError, match=re.escape(rule)):
        with_lines(line)


@pytest.mark.parametrize(
    "key", ["a/min_fs", "a/max_fs", "a/min_ss", "a/max_ss", "a/corner_x", "a/corner_y", "a/fs", "a/ss", "res"]
)
def test_what_a_panel_must_say_is_asked_for(key):
    with pytest.raises(InputError, match=f"line [45]: panel a must give {key.removeprefix('a/')}"):
        parse_geom(without(key))


@pytest.mark.parametrize("text", ["", "clen = 3\n", "; nothing\n"])
def test_a_file_without_panels_is_none(text):
    with pytest.raises(InputError, match=r"the geometry must describe at least one panel|clen"):
        parse_geom(text)


def test_errors_begin_with_the_file(tmp_path):
    path = tmp_path / "bad.geom"
    path.write_text(SIMPLE + "a/res = zero\n")
    with pytest.raises(InputError, match=re.escape(f"{path}: line 13: a/res must be a number, got 'zero'")):
        read_geom(path)
    with pytest.raises(InputError, match="cannot be read"):
        read_geom(tmp_path / "none.geom")


def test_panels_copy_the_values_given_so_far_and_later_lines_may_amend_them():
    geometry = with_lines(
        "max_adu = 7", "res = 5000", "coffset = 0.5", *second(), "a/coffset = 0.25", "a/max_adu = inf"
    )
    a, b = geometry.panels
    assert (a.res, a.coffset_m, a.max_adu) == (10000, 0.25, math.inf)
    assert (b.res, b.coffset_m, b.max_adu) == (5000, 0.5, 7)


def test_panels_that_share_pixels_of_the_data_are_refused_but_not_those_of_different_arrays():
    with pytest.raises(InputError, match="line 13: panel b must not share pixels of the data with a"):
        with_lines(*second(rows=(4, 9)))
    assert len(with_lines("a/dim2 = 0", *second("b/dim2 = 1", rows=(4, 9))).panels) == 2


def test_unknown_keys_are_listed_and_left():
    geometry = with_lines("photon_energy_bandwidth = 0.01", "a/colour = red", "bad1/min_x = 2", "bad1/dim1 = 3")
    assert geometry.unknown == (
        (13, "photon_energy_bandwidth", "0.01"),
        (14, "a/colour", "red"),
        (16, "bad1/dim1", "3"),
    )


def test_flags_masks_and_dimensions_are_kept():
    geometry = with_lines(
        *("a/flag_lessthan = -3.7", "a/flag_equal = 65535", "a/mask = /m", "a/mask_bad = 0xfeff", "a/mask_good = 1.0"),
        *("a/mask7_data = /n", "a/mask7_file = n.h5", "a/dim0 = %", "a/dim1 = 3", "a/dim2 = ss", "a/dim3 = fs"),
        *("a/no_index = FALSE", "a/adu_per_eV = 0.01", "a/saturation_map = /s", "a/mask2_goodbits = 0"),
    )
    (panel,) = geometry.panels
    assert [(flag.kind, flag.value) for flag in panel.flags] == [("lessthan", -3), ("equal", 65535)]
    assert [(m.index, m.data, m.file, m.good_bits, m.bad_bits) for m in panel.masks] == [
        (0, "/m", None, 1, 0xFEFF),
        (7, "/n", "n.h5", 0, 0),
    ]
    assert panel.dims == ("%", 3, "ss", "fs") and panel.fixed == {1: 3}
    assert (panel.no_index, panel.adu_per_eV, panel.adu_per_photon) == (False, 0.01, None)


def test_seventeen_flags_are_too_many():
    with pytest.raises(InputError, match="line 29: a/flag_equal is one flag too many"):
        with_lines(*["a/flag_equal = 3"] * 17)


# --- bad pixels -----------------------------------------------------------------------------------


def test_bad_regions_edges_and_panels_that_are_left_out():
    lines = ["bad_f/min_fs = 2", "bad_f/max_fs = 4", "bad_f/min_ss = 1", "bad_f/max_ss = 1", "bad_f/panel = a"]
    # In x and y limits are exclusive, and the corner of a pixel counts: a's fifth column begins at x = -1.
    lines += ["bad_x/min_x = -1.5", "bad_x/max_x = 0", "bad_x/min_y = 1", "bad_x/max_y = 4.5"]
    bad = mark_bad(with_lines(*lines))
    expected = np.zeros((5, 10), dtype=bool)
    expected[1, 2:5] = True
    expected[:2, 4] = True
    assert (bad == expected).all()
    # A limit that is missing masks nothing.
    assert not mark_bad(with_lines(*lines[5:8])).any()
    edges = mark_bad(with_lines("a/mask_edge_pixels = 1", *second("b/no_index = 1", rows=(6, 9))))
    assert edges.sum() == 50 - 8 * 3 + 40 and edges[6:].all() and not edges[5].any()
    assert mark_bad(with_lines("a/mask_edge_pixels = 999")).all()


def test_regions_in_x_and_y_go_with_the_detectors_shift():
    geometry = with_lines("bad/min_x = -1.5", "bad/max_x = 0", "bad/min_y = -99", "bad/max_y = 99")
    assert mark_bad(geometry)[0].tolist() == [column == 4 for column in range(10)]
    assert mark_bad(geometry, shift_m=(2e-4, 0.0))[0].tolist() == [column == 2 for column in range(10)]


@pytest.mark.parametrize(("good", "wrong"), [(0, 1), (3, 0), (1, 2), (0, 0)])
def test_masks_are_read_by_their_bits(tmp_path, good, wrong):
    values = np.arange(50).reshape(5, 10) % 4
    with h5py.File(tmp_path / "mask.h5", "w") as file:
        file["flat"] = values
        file["each"] = np.stack([values, values + 1])
    expected = ((values & good) != good) | ((values & wrong) != 0)
    bits = (f"a/mask_good = {good}", f"a/mask_bad = {wrong:#x}")
    for where in ("/flat", "/each"):
        geometry = with_lines(f"a/mask = {where}", "a/dim0 = %", "a/dim1 = ss", "a/dim2 = fs", *bits)
        bad, left_out = read_masks(geometry, tmp_path / "mask.h5", 0)
        assert (bad == expected).all() and left_out == ()
    named = with_lines("a/mask = /flat", "a/mask_file = mask.h5", *bits)
    assert (read_masks(named, folder=tmp_path)[0] == expected).all()


def test_a_mask_that_is_not_there_is_an_error_or_is_named(tmp_path):
    geometry = with_lines("a/mask = /m", "a/mask_file = none.h5")
    with pytest.raises(InputError, match=r"mask0 lies in .*none.h5 at /m, which is not there"):
        read_masks(geometry, folder=tmp_path)
    bad, left_out = read_masks(geometry, folder=tmp_path, required=False)
    assert not bad.any() and len(left_out) == 1 and "none.h5" in left_out[0]
    with pytest.raises(InputError, match="lies in the file of the data at /m, which is not given"):
        read_masks(with_lines("a/mask = /m"))


def test_a_mask_of_the_wrong_shape_is_refused(tmp_path):
    with h5py.File(tmp_path / "mask.h5", "w") as file:
        file["small"] = np.zeros((4, 10), dtype=int)
        file["deep"] = np.zeros((2, 2, 5, 10), dtype=int)
        file["real"] = np.zeros((5, 10))
    for name, rule in [("small", "must have the dimensions ss, fs"), ("deep", "must have"), ("real", "whole numbers")]:
        with pytest.raises(InputError, match=f"mask0 of panel a {rule}|{rule}"):
            read_masks(with_lines(f"a/mask = /{name}"), tmp_path / "mask.h5")


def test_masks_of_a_stack_go_to_their_modules(tmp_path):
    with h5py.File(tmp_path / "mask.h5", "w") as file:
        mask = np.zeros((2, 5, 10), dtype=np.uint16)
        mask[1, 2, 3] = 4
        file["m"] = mask
    stack = ("dim1 = ss", "dim2 = fs")
    lines = [f"a/{line}" for line in ("dim0 = 0", *stack)], [f"b/{line}" for line in ("dim0 = 1", *stack)]
    geometry = parse_geom(
        "mask = /m\nmask_bad = 4\n" + SIMPLE + "\n".join([*lines[0], *second(*lines[1], rows=(0, 4))])
    )
    assert np.argwhere(read_masks(geometry, tmp_path / "mask.h5")[0]).tolist() == [[7, 3]]


# --- writing --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(set(FILES) - set(REFUSED)))
def test_the_collection_comes_back_from_its_own_text_with_every_value(name):
    geometry = read_geom(FILES[name])
    text = write_geom(geometry, "A comment.\nOf two lines.")
    again = parse_geom(text)
    made = ("groups", "rigid_groups", "rigid_group_collections")
    kept = {field: getattr(again, field) for field in made if not getattr(geometry, field)}
    assert every_value(again) == every_value(dataclasses.replace(geometry, **kept))
    has_none = all((panel.clen or geometry.clen) is None for panel in geometry.panels)
    first, second = (g.place(at_paths(geometry), clen_m=0.25 if has_none else None) for g in (geometry, again))
    assert first == second
    check_groups(again)
    assert not re.search(r"^\S+/[fs]s = .*[eE]", text, re.MULTILINE)


def check_groups(geometry: Geometry) -> None:
    """By CrystFEL's rules, and so that every panel is in ``all`` once."""
    groups = dict(geometry.groups)
    assert max(len(members) for members in groups.values()) <= MOST_CHILDREN
    assert len(geometry.panels) + len(groups) <= MOST_GROUPS

    def leaves(name):
        return [leaf for child in groups[name] for leaf in leaves(child)] if name in groups else [name]

    assert sorted(leaves("all")) == sorted(panel.name for panel in geometry.panels)


def panels_named(names) -> tuple[GeomPanel, ...]:
    common = {"corner": (0.0, 0.0), "fs": (1.0, 0.0, 0.0), "ss": (0.0, 1.0, 0.0), "res": 1e4, "min_fs": 0, "max_fs": 9}
    return tuple(GeomPanel(name=name, min_ss=10 * row, max_ss=10 * row + 9, **common) for row, name in enumerate(names))


@pytest.mark.parametrize(
    ("names", "modules"),
    [
        ([f"p{m}a{a}" for m in range(32) for a in range(8)], 32),
        ([f"p{m}a{a}" for m in range(16) for a in range(8)], 16),
        ([f"m{m}" for m in range(300)], 0),
        ([f"x{m}" for m in range(65)], 0),
        ([f"p{m}a{a}" for m in range(70) for a in range(2)], 70),
        (["a", "b"], 0),
        ([f"p{m}a{a}" for m in range(2) for a in range(100)], 2),
    ],
)
def test_groups_are_made_of_the_panels_names_and_stay_within_crystfels_limits(names, modules):
    geometry = parse_geom(write_geom(Geometry(panels=panels_named(names))))
    check_groups(geometry)
    if modules:
        assert {f"p{m}" for m in range(modules)} <= set(dict(geometry.groups))
    assert dict(geometry.rigid_groups)["all"] == tuple(names)
    assert sum(len(members) for _, members in geometry.rigid_group_collections) == len(geometry.groups)


def test_a_panel_called_all_leaves_no_name_for_the_group_of_all():
    assert parse_geom(write_geom(Geometry(panels=panels_named(["all", "b"])))).groups == ()


@pytest.mark.parametrize("groups", [(("x", ("x",)),), (("x", ("y",)), ("y", ("a",))), (("a", ("b",)),)])
def test_groups_of_what_does_not_come_before_them_are_refused(groups):
    with pytest.raises(InputError, match="must be made of panels and of groups before it"):
        write_geom(Geometry(panels=panels_named(["a", "b"]), groups=groups))


def test_a_long_chain_of_groups_is_no_trouble():
    chain = [f"group_g{place} = {'a' if place == 0 else f'g{place - 1}'}" for place in range(500)]
    assert parse_geom(write_geom(with_lines(*chain))).groups[-1] == ("g499", ("g498",))


def test_more_panels_than_crystfel_takes_are_refused():
    with pytest.raises(InputError, match=r"panels and groups of a .geom must be 512 at most"):
        write_geom(Geometry(panels=panels_named([f"m{m}" for m in range(512)])))
    group = (("all", tuple(f"m{m}" for m in range(65))),)
    with pytest.raises(InputError, match="group all must have 64 members at most, got 65"):
        write_geom(Geometry(panels=panels_named([f"m{m}" for m in range(65)]), groups=group))


@pytest.mark.parametrize("name", ["bad1", "group", "rigid_groups", "a/b", "a b", "", "a;", "a=", "a,b"])
def test_names_that_mean_something_else_are_not_written(name):
    with pytest.raises(InputError, match="the name of a panel must hold no"):
        write_geom(Geometry(panels=panels_named([name])))


def test_names_of_other_programs_become_legal():
    names = [f"/entry/instrument/ELE_D0/ARRAY_D0Q{q}M{m}A{a}" for q in range(4) for m in range(8) for a in range(8)]
    legal = legal_names(names)
    assert legal[9] == "ARRAY_D0Q0M1A1"
    groups = dict(parse_geom(write_geom(Geometry(panels=panels_named(legal)))).groups)
    assert groups["all"] == tuple(f"ARRAY_D0Q{q}" for q in range(4))
    assert groups["ARRAY_D0Q3"] == tuple(f"ARRAY_D0Q3M{m}" for m in range(8))
    assert groups["ARRAY_D0Q3M2"] == tuple(f"ARRAY_D0Q3M2A{a}" for a in range(8))
    assert legal_names(["a b", "bad", "", "x"]) == ("a_b", "p_bad", "p_", "x")
    assert legal_names(["a/x", "b/x"]) == ("p0", "p1")


PARTS = [f"q{q}m{m}a{a}" for q in (0, 1) for m in (0, 1) for a in (0, 1)]
names_of_panels = st.lists(st.sampled_from([*PARTS, "g0", "all_0"]), unique=True, min_size=2)


@given(st.data())
def test_groups_are_sound_whatever_the_rigid_groups_and_names(data):
    names = data.draw(names_of_panels)
    rigid = data.draw(
        st.dictionaries(st.sampled_from(["a", "b", "c", "q0", names[0]]), st.lists(st.sampled_from(names), unique=True))
    )
    groups = tuple((name, tuple(members)) for name, members in rigid.items())
    text = write_geom(Geometry(panels=panels_named(names), rigid_groups=groups))
    check_groups(parse_geom(text))


sizes = st.floats(-1e3, 1e3).filter(lambda value: value == 0 or abs(value) > 1e-9)
vectors = st.tuples(sizes, sizes, sizes)


@given(origin=vectors, fast=vectors, slow=vectors, clen=sizes, res=st.floats(1e-2, 1e6))
def test_any_panel_comes_back_where_it_was(origin, fast, slow, clen, res):
    if np.linalg.norm(np.cross(fast, slow)) < 1e-6 * np.linalg.norm(fast) * np.linalg.norm(slow) + 1e-300:
        return
    # Of pixels that are a million times as long as wide the reader refuses the longer edge.
    assume(1e-5 < np.linalg.norm(fast) / np.linalg.norm(slow) < 1e5)
    template = parse_geom(SIMPLE).place().panels[0]
    steps = {"fast_m": tuple(v / res for v in fast), "slow_m": tuple(v / res for v in slow)}
    placed = dataclasses.replace(template, origin_m=origin, **steps)
    panel = panel_of_place(placed, clen_m=clen, adu_per_photon=1.0)
    length = Quantity(key="clen", unit="mm", number=clen)
    text = write_geom(Geometry(panels=(panel,), clen=length))
    assert not re.search(r"/[fs]s = .*[eE]", text)
    again = parse_geom(text).place().panels[0]
    for name in ("origin_m", "fast_m", "slow_m"):
        a, b = (np.array(getattr(p, name)) for p in (placed, again))
        assert np.abs(a - b).max() <= 1e-15 * max(np.abs(a).max(), abs(clen))
    assert (again.first_fast, again.first_slow, again.n_fast, again.n_slow) == (0, 0, 10, 5)


# --- anything at all ------------------------------------------------------------------------------

LINES = [line for path in FILES.values() for line in path.read_text(errors="replace").splitlines()[:400]]
WHOLE = [SIMPLE, *(path.read_text(errors="replace") for path in FILES.values() if path.stat().st_size < 4000)]
SCRAPS = [
    "",
    "=",
    "/",
    "x",
    "-",
    "1e999",
    "nan",
    "inf",
    "0x",
    "%",
    "ss",
    "fs",
    "\0",
    "é",
    "9" * 30,
    " ",
    "\t",
    ",",
    "-1",
]


def try_all(text: str) -> None:
    """Read, place, mark and write: nothing but an InputError may come of it."""
    try:
        geometry = parse_geom(text, "some.geom")
    except InputError as error:
        assert str(error).startswith("some.geom: ")
        return
    slab = geometry.slab()
    try:
        placed = geometry.place(at_paths(geometry))
        geometry.wavelength_A(dict.fromkeys(at_paths(geometry), 1000.0))
        again = parse_geom(write_geom(geometry))
    except InputError:
        return
    assert every_value(again).panels == every_value(geometry).panels
    assert all(math.isfinite(v) for panel in placed.panels for v in (*panel.fast_m, *panel.slow_m))
    if slab.n_slow * slab.n_fast < 1e6:
        mark_bad(geometry)


@given(st.data())
def test_lines_that_are_changed_cut_swapped_or_doubled_are_read_or_refused(data):
    lines = data.draw(st.sampled_from(WHOLE)).splitlines()
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, max(len(lines) - 1, 0)))
        line = lines[place] if lines else ""
        what = data.draw(st.sampled_from(["scrap", "value", "cut", "drop", "other", "copy", "key"]))
        at = data.draw(st.integers(0, len(line)))
        scrap = data.draw(st.sampled_from(SCRAPS))
        new = {
            "scrap": [line[:at] + scrap + line[at:]],
            "value": [line.partition("=")[0] + "=" + scrap],
            "cut": [line[:at]],
            "drop": [],
            "other": [data.draw(st.sampled_from(LINES)), line],
            "copy": [line, line],
            "key": [scrap + "=" + line.partition("=")[2]],
        }[what]
        lines[place : place + 1] = new
    try_all("\n".join(lines))


@given(st.text(alphabet=st.sampled_from("ab/=xyz+-.0123456789e ;\n,%mfsdi_"), max_size=200))
def test_noise_is_refused(text):
    try_all(text)


@given(st.binary(max_size=300))
def test_bytes_are_refused(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("geom") / "some.geom"
    path.write_bytes(data)
    with pytest.raises(InputError):
        read_geom(path)


# --- another reader -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(set(FILES) - set(REFUSED)))
def test_cfel_fmt_has_the_same_panels_where_it_reads_the_file(name):
    reader = pytest.importorskip("cfel_fmt.geometry", reason="cfel_fmt is not installed")
    try:
        theirs = reader.load_crystfel_geometry(str(FILES[name])).detector["panels"]
    except Exception as error:  # whatever a reader of another house does with files that it does not know
        pytest.skip(f"cfel_fmt does not read it: {type(error).__name__}")
    ours = {panel.name: panel for panel in read_geom(FILES[name]).panels}
    assert list(theirs) == list(ours)
    for key, panel in ours.items():
        other = theirs[key]
        own = (*panel.fs, *panel.ss, *panel.corner, panel.coffset_m, panel.res)
        keys = ("fsx", "fsy", "fsz", "ssx", "ssy", "ssz", "cnx", "cny", "coffset", "res")
        assert own == pytest.approx([other[k] for k in keys], rel=1e-12)
        limits = ("min_fs", "max_fs", "min_ss", "max_ss")
        assert [getattr(panel, k) for k in limits] == [other[f"orig_{k}"] for k in limits]
