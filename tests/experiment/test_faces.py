"""How nouns, simulators, series and statistics show themselves to a person."""

from __future__ import annotations

import dataclasses
import html.parser

import numpy as np
import pytest

import bragg_numba
from bragg_numba import (
    Absorption,
    AirPath,
    Beam,
    Beamstop,
    Crystal,
    Damage,
    Detector,
    Experiment,
    Rotation,
    Sampling,
    Shadow,
    Simulator,
    StructureFactors,
    Window,
    rotation_series,
    still_series,
)
from bragg_numba.experiment import faces

NOUNS = (Beam, Crystal, Detector, Rotation, Sampling, StructureFactors, Experiment)

OBSTACLES = (AirPath, Window, Absorption, Beamstop, Shadow)


def small(**parts) -> Experiment:
    parts = {
        "crystal": Crystal(cell=(50, 60, 70, 80, 95, 105), cell_counts=(3, 4, 5)),
        "structure_factors": StructureFactors(default_F=100),
        "detector": Detector(n_fast=12, n_slow=8),
        "sampling": Sampling(oversample=2),
        **parts,
    }
    return Experiment(**parts)


def masked() -> Detector:
    mask = np.ones((300, 400), dtype=bool)
    mask[:2] = False
    return Detector(n_fast=400, n_slow=300, mask=mask)


def of_many_reflections() -> StructureFactors:
    indices = np.array(list(np.ndindex(5, 6, 7)))
    return StructureFactors(indices=indices - 3, amplitudes=np.linspace(0.5, 90, len(indices)))


# --- as the call that makes it


@pytest.mark.parametrize(
    ("noun", "shown"),
    [
        (Beam(), "Beam()"),
        (Beam(wavelength_A=1.1, fluence_per_m2=1e26), "Beam(wavelength_A=1.1, fluence_per_m2=1e+26)"),
        (Beam(wavelength_A=1.0, polarized=False), "Beam(polarized=False)"),
        (Crystal(cell=(50,), misset_deg="random"), "Crystal(cell=(50, 50, 50, 90, 90, 90), misset_deg='random')"),
        (
            Crystal(cell=(50, 60, 70), size_mm=(0.1, None, None)),
            "Crystal(cell=(50, 60, 70, 90, 90, 90), size_mm=(0.1, None, None))",
        ),
        (Rotation(phi_deg=-1.25), "Rotation(phi_deg=-1.25)"),
        (Sampling(roi=(1, 2, 3, 4)), "Sampling(roi=(1, 2, 3, 4))"),
        (
            StructureFactors(indices=[(1, 0, -2)], amplitudes=[3.5]),
            "StructureFactors(indices=((1, 0, -2),), amplitudes=(3.5,))",
        ),
    ],
)
def test_a_noun_shows_the_call_that_makes_it_without_its_defaults(noun, shown):
    assert repr(noun) == str(noun) == shown


@pytest.mark.parametrize(
    "noun",
    [
        Beam(
            wavelength_A=0.1 + 0.2,
            flux_per_s=1e12 / 3,
            horizontal_divergence_mrad=0.5,
            sources=[(-10, 0, 0, 1, 1e-10), (-10, 0.1, None, None, None)],
        ),
        Crystal(cell=(50,), orientation=[[0, -1, 0], [1, 0, 0], [0, 0, 1]], mosaic_spread_deg=1 / 3),
        Detector(n_fast=3, n_slow=2, convention="xds", fast_axis=(1, 1e-9, -0.0), mask=[[1, 0, 1], [1, 1, 1]]),
        Rotation(phi_deg=-0.0, osc_deg=1e-30, phi_steps=3),
        Sampling(oversample=3, interpolate=False, dmin_A=1.7),
        StructureFactors(default_F=-2, indices=[(1, 0, -2), (3, 4, 5)], amplitudes=[3.5, 0.1]),
        small(fidelity="physical", beam=Beam(polarization=0.9)),
    ],
    ids=lambda noun: type(noun).__name__,
)
def test_what_a_noun_shows_can_be_pasted_back(noun):
    again = eval(repr(noun), vars(bragg_numba) | {kind.__name__: kind for kind in NOUNS})

    assert again == noun
    assert repr(again) == repr(noun)


def test_masks_and_long_tables_are_shown_by_shape_and_range():
    assert repr(masked()) == "Detector(n_fast=400, n_slow=300, mask=<300 x 400 bool, 119200 of 120000 True>)"
    factors = repr(of_many_reflections())
    assert factors == "StructureFactors(indices=<210 x 3 int32, -3 to 3>, amplitudes=<210 float64, 0.5 to 90>)"
    beam = Beam(sources=[(-10.0, 0.0, 0.01 * i, 1.0, 1e-10) for i in range(100)])
    assert repr(beam) == "Beam(sources=<100 rows of 5>)"


def test_an_experiment_of_a_large_detector_stays_a_line():
    shown = repr(small(detector=masked(), structure_factors=of_many_reflections()))

    assert len(shown) < 400
    assert "beam=" not in shown and "rotation=" not in shown


@pytest.mark.parametrize("kind", NOUNS, ids=lambda kind: kind.__name__)
def test_every_field_that_is_not_given_is_left_out(kind):
    required = {Crystal: {"cell": (50,)}, StructureFactors: {"default_F": 1}}
    noun = small() if kind is Experiment else kind(**required.get(kind, {}))

    shown = {name for name, _ in faces.given(noun)}

    for field in dataclasses.fields(noun):
        default = faces._default(field)
        assert (field.name in shown) == (getattr(noun, field.name) != default), field.name


# --- units


def test_the_unit_of_a_field_is_the_end_of_its_name():
    known = {
        "wavelength_A": "angstrom",
        "fluence_per_m2": "1/m^2",
        "flux_per_s": "1/s",
        "exposure_s": "s",
        "beam_size_mm": "mm",
        "dispersion_percent": "%",
        "horizontal_divergence_mrad": "mrad",
        "thickness_um": "um",
        "rotation_deg": "deg",
        "org_x_px": "px",
        "max_slow_m": "m",
        "default_F": "electrons",
        "cell": "angstrom, deg",
        "dispersion_steps": "",
        "convention": "",
    }
    assert {name: faces.unit_of(name) for name in known} == known


#: Fields that are counts, choices, switches, directions or seeds: they have no unit.
WITHOUT_UNIT = {
    *(
        "anomalous",
        "axis",
        "cell_counts",
        "convention",
        "curved",
        "direction",
        "dispersion_steps",
        "engine",
        "fast_axis",
    ),
    *("geometry_file", "geometry_notes", "geometry_text"),
    *("fidelity", "fudge", "horizontal_divergence_steps", "indices", "interpolate", "mask", "misset_seed"),
    *("mosaic_domains", "mosaic_seed", "normal_axis", "orientation", "oversample", "oversample_omega"),
    *("oversample_polar", "oversample_thick", "phi_steps", "pivot", "pixel_average", "point_pixel"),
    "polarization",
    *("polarization_axis", "polarized", "round_divergence", "shape", "slow_axis", "sources", "thickness_steps"),
    *("shot", "spectrum"),
    *("block_sizes", "block_spread", "block_spread_sizes", "cell_count_matrix", "scale"),
    *("mosaic_model", "mosaic_rotations", "mosaic_weights"),
    *("backgrounds", "before", "exponent", "gas", "law", "material", "name", "normal", "sensor", "solid", "turns"),
    "transmission",
    *("twotheta_axis", "vertical_divergence_steps", "counts", "origin", "space_group"),
}


@pytest.mark.parametrize("kind", (*NOUNS[:-1], *OBSTACLES, Damage), ids=lambda kind: kind.__name__)
def test_every_field_has_a_unit_or_is_known_to_have_none(kind):
    without = {field.name for field in dataclasses.fields(kind) if not faces.unit_of(field.name)}

    assert without <= WITHOUT_UNIT


# --- over several lines


def test_an_experiment_is_printed_over_lines_with_units():
    experiment = small(beam=Beam(wavelength_A=1.1, fluence_per_m2=1e26), fidelity="physical")

    assert str(experiment) == (
        "Experiment: 12 x 8 pixels (fast x slow)\n"
        "  fidelity  physical\n"
        "  crystal\n"
        "    cell         50 60 70 80 95 105 angstrom, deg\n"
        "    cell_counts  3 4 5\n"
        "  structure_factors\n"
        "    default_F  100 electrons\n"
        "  beam\n"
        "    wavelength_A    1.1 angstrom\n"
        "    fluence_per_m2  1e+26 1/m^2\n"
        "  detector\n"
        "    n_fast  12 px\n"
        "    n_slow  8 px\n"
        "  rotation: defaults\n"
        "  sampling\n"
        "    oversample  2"
    )


def test_words_have_no_unit_and_rows_are_told_apart():
    turned = Crystal(cell=(50,), misset_deg="random", orientation=np.eye(3))
    text = str(small(crystal=turned))

    assert "    misset_deg   random\n" in text
    assert "    orientation  1 0 0; 0 1 0; 0 0 1\n" in text


# --- in a notebook


class Rows(html.parser.HTMLParser):
    """The cells of a table, row by row; fails on a tag that is not closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.rows, self.open = [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] in ("td", "th"):
            self.rows[-1][-1] += data


def test_a_noun_is_a_table_of_field_value_and_unit():
    rows = Rows(Beam(wavelength_A=1.1, polarized=False)._repr_html_()).rows

    assert rows == [["field", "value", "unit"], ["wavelength_A", "1.1", "angstrom"], ["polarized", "False", ""]]


def test_an_experiment_is_a_table_of_its_parts():
    rows = Rows(small(detector=masked())._repr_html_()).rows

    assert [row for row in rows if len(row) == 1] == [
        ["crystal"],
        ["structure_factors"],
        ["beam"],
        ["defaults"],
        ["detector"],
        ["rotation"],
        ["defaults"],
        ["sampling"],
    ]
    assert ["cell", "50 60 70 80 95 105", "angstrom, deg"] in rows
    assert ["mask", "300 x 400 bool, 119200 of 120000 True", ""] in rows


def test_what_goes_into_a_table_is_escaped():
    text = faces.html_table("<b>", [("<i>&", [("<u>", "<script>alert(1)</script>")])])

    assert Rows(text).rows[1:] == [["<i>&"], ["<u>", "<script>alert(1)</script>", ""]]
    for tag in ("<b>", "<i>", "<u>", "<script"):
        assert tag not in text


# --- what is made of experiments


def test_a_simulator_says_where_and_how_it_renders():
    simulator = Simulator(small(crystal=Crystal(cell=(50,), mosaic_spread_deg=1, mosaic_domains=3)), backend="cpu")
    shown = repr(simulator)

    assert not simulator._renderer._kernels  # it has not rendered
    chosen = simulator.precision
    assert (
        shown == f"<Simulator on cpu, engine pixels, precision {chosen}: 12 x 8 pixels (fast x slow), 12 steps a pixel>"
    )
    assert simulator.plan.steps == 12
    exact = Simulator(simulator.experiment, backend="cpu", precision="float64")
    assert repr(exact) == shown.replace(f"precision {chosen}", "precision float64")


def test_statistics_are_told_in_photons():
    simulator = Simulator(small())
    simulator.render()
    s = simulator.statistics

    assert s.sum > 0
    assert repr(s) == (
        f"<Statistics of 96 pixels: sum {s.sum:g}, max {s.max:g} at slow {s.max_slow}, fast {s.max_fast}, "
        f"mean {s.mean:g}, rms {s.rms:g}, rmsd {s.rmsd:g} photons>"
    )
    rows = {row[0]: row[1:] for row in Rows(s._repr_html_()).rows}
    assert rows["sum"] == [repr(s.sum), "photons"]
    assert rows["pixels"] == ["96", ""]
    assert rows["max_fast_m"][1] == "m"


def test_a_series_says_how_many_frames_and_what_changes():
    sweep = rotation_series(small(), 10.0, 0.5, 3)
    stills = still_series(small(), 4, seed=1, distributions={"wavelength_A": {"choice": [1.25]}})

    assert repr(sweep) == "<Series of 3 frames, 12 x 8 pixels (fast x slow); phi_deg 10 to 11 deg>"
    assert repr(stills) == (
        "<Series of 4 frames, 12 x 8 pixels (fast x slow); orientation; wavelength_A 1.25 angstrom>"
    )
    rows = Rows(stills._repr_html_()).rows
    assert rows[:2] == [["field", "value", "unit"], ["frames"]]
    assert ["wavelength_A", "1.25 1.25 1.25 1.25", "angstrom"] in rows
    assert ["cell_counts", "3 4 5", ""] in rows
