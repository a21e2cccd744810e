"""Frames in the layout of the .geom that the detector is from: what its own rules read is what was rendered."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import h5py
import numpy as np
import pytest

from bragg_numba import Beam, Crystal, Detector, Experiment, InputError, Sampling, Series, StructureFactors
from bragg_numba.cli import bragg
from bragg_numba.io.geom_file import read_geom
from bragg_numba.io.geom_masks import read_masks
from bragg_numba.series.source import open_source

PANELS = """\
photon_energy = {energy}
clen = {clen}
res = 10000
{top}
{units}
a/min_fs = 2
a/max_fs = 41
a/min_ss = 1
a/max_ss = 24
a/corner_x = -20
a/corner_y = -26
a/fs = x
a/ss = y
{a}
b/min_fs = 2
b/max_fs = 41
b/min_ss = {b_ss}
b/max_ss = {b_end}
b/corner_x = -20
b/corner_y = 2
b/fs = x
b/ss = y
b/mask_edge_pixels = 1
{b}
"""


def text(**words: str) -> str:
    """A geometry of two panels of 40 x 24 pixels, the second one beside or behind the first in the file."""
    stacked = "dim1" in words.get("b", "")
    rows = {"b_ss": 1, "b_end": 24} if stacked else {"b_ss": 30, "b_end": 53}
    defaults = {"energy": "12000 eV", "clen": "0.03", "top": "dim0 = %\ndim1 = ss\ndim2 = fs", "a": "", "b": ""}
    return PANELS.format(**{"units": "adu_per_photon = 1", **defaults, **rows, **words})


LAYOUTS = {
    "slab": text(
        top="data = /entry_1/data_1/data\ndim0 = %\ndim1 = ss\ndim2 = fs\nmask = /entry_1/data_1/mask\nmask_bad = 0x7"
    ),
    "stack": text(
        top="data = /a/data\ndim0 = %\ndim2 = ss\ndim3 = fs\nmask0_data = /a/mask\nmask0_goodbits = 0x5",
        a="a/dim1 = 3",
        b="b/dim1 = 1",
        clen="/run/z",
        energy="/run/keV keV",
    ),
    "odd order": text(top="dim0 = ss\ndim1 = %\ndim2 = fs\ndim3 = 0", units="adu_per_eV = 0.01\nmax_adu = 900"),
    "paths": text(top="data = /%/data\ndim0 = ss\ndim1 = fs", clen="/%/z m", energy="/all/energy"),
    "files": text(
        top="data = /image\ndim0 = ss\ndim1 = fs\nmask = /mask\nmask_file = m.h5\nmask_good = 0x1", clen="/z"
    ),
    "two datasets": text(
        a="a/data = /left", b="b/data = /right", top="dim0 = %\ndim1 = ss\ndim2 = fs\npeak_list = /peaks"
    ),
}
VALUES = {"/run/z": 30.0, "/run/keV": 12.0, "/%/z": 0.03, "/all/energy": 12000.0, "/z": 30.0}


def series_on(path: Path) -> Series:
    experiment = Experiment.from_geom(
        path,
        values=VALUES,
        crystal=Crystal(cell=(30, 35, 40), misset_deg=(10, 20, 30), cell_counts=(4, 4, 4), shape="gauss"),
        structure_factors=StructureFactors(default_F=100),
        beam=Beam(fluence_per_m2=3e28),
        sampling=Sampling(oversample=1),
        fidelity="physical",
    )
    return Series(experiment, [{"phi_deg": 0.0}, {"phi_deg": 40.0}, {"phi_deg": 80.0}])


def read_frame(geometry, folder: Path, stem: str, index: int) -> np.ndarray:
    """A frame as the geometry's rules read it, (n_slow, n_fast), in the file's units."""
    slab = geometry.slab()
    out = np.zeros((slab.n_slow, slab.n_fast))
    single = folder / f"{stem}.h5"
    file_name = single if single.exists() else folder / f"{stem}_{index + 1:06d}.h5"
    with h5py.File(file_name) as file:
        for panel, first_row in zip(geometry.panels, slab.first_rows, strict=True):
            at = {"%": index, "ss": slice(panel.min_ss, panel.max_ss + 1), "fs": slice(panel.min_fs, panel.max_fs + 1)}
            data = file[panel.data.replace("%", str(index))]
            assert data.ndim == len(panel.dims)
            rows = slice(first_row + panel.min_ss, first_row + panel.max_ss + 1)
            out[rows, panel.min_fs : panel.max_fs + 1] = data[tuple(at.get(dim, dim) for dim in panel.dims)]
    return out


def read_peaks(geometry, file, index: int) -> tuple[np.ndarray, np.ndarray]:
    """Columns and rows of a frame's peaks, from the centres of pixels, where the .geom says that they are."""
    if geometry.peak_list_type == "list3":
        rows = file[geometry.peak_list.replace("%", str(index))][()]
        return rows[:, 0], rows[:, 1]
    assert geometry.peak_list_type == "cxi"
    peaks = file[geometry.peak_list]
    n = int(peaks["nPeaks"][index])
    return peaks["peakXPosRaw"][index, :n], peaks["peakYPosRaw"][index, :n]


@pytest.mark.parametrize("name", LAYOUTS)
def test_what_the_geometry_reads_is_what_was_rendered(tmp_path, name):
    path = tmp_path / "given.geom"
    path.write_text(LAYOUTS[name])
    series = series_on(path)
    result = series.write(tmp_path / "s", backend="cpu", layout="geom", spot_threshold=10.0)
    written = tmp_path / "s_layout.geom"
    assert str(written) in result.exports
    given, ours = read_geom(path), read_geom(written)
    single = tmp_path / "s_layout.h5"
    data_file = single if single.exists() else tmp_path / "s_layout_000002.h5"
    for geometry in (given, ours):
        event = "1//" if name == "paths" else 1
        placed = geometry.place(data_file, event)
        assert geometry.wavelength_A(data_file, event) == pytest.approx(series.experiment.beam.wavelength_A, rel=1e-9)
        for own, panel in zip(placed.panels, series.experiment.detector.panels, strict=True):
            assert np.abs(np.array(own.origin_m) * 1000.0 - panel.origin_mm).max() < 1e-9
    assert [panel.masks and panel.masks[0].data for panel in ours.panels] == [
        panel.masks and panel.masks[0].data for panel in given.panels
    ]
    factor = 1.0 if name != "odd order" else 0.01 * 12000.0
    with open_source(result.masters[0]) as source:
        for index in range(3):
            frame, (_, spots) = source.frame(index), source.truth(index)
            assert frame.max() > 50.0
            found = read_frame(ours, tmp_path, "s_layout", index)
            assert found == pytest.approx(
                np.minimum(frame * factor, 900.0 if name == "odd order" else np.inf), rel=1e-6
            )
            with h5py.File(single if single.exists() else tmp_path / f"s_layout_{index + 1:06d}.h5") as file:
                fast, slow = read_peaks(ours, file, index)
                assert len(fast) == len(spots) > 0
                assert fast + 0.5 == pytest.approx(spots["fast"], abs=1e-4)
                assert slow.max() <= max(panel.max_ss for panel in ours.panels) + 0.5
    if ours.panels[0].masks:
        bad, _ = read_masks(ours, data_file, 0)
        lies = ~np.isnan(series.experiment.pixel_positions_m()[..., 0])
        assert (bad[lies] == ~series.experiment.detector.mask[lies]).all() and bad[lies].any()


@pytest.mark.skipif(shutil.which("indexamajig") is None, reason="needs CrystFEL's indexamajig")
@pytest.mark.parametrize("name", LAYOUTS)
def test_indexamajig_reads_data_masks_and_peaks(tmp_path, name):
    (tmp_path / "given.geom").write_text(LAYOUTS[name])
    result = series_on(tmp_path / "given.geom").write(
        tmp_path / "s", backend="cpu", layout="geom", spot_threshold=10.0, compression="gzip"
    )
    single = tmp_path / "s_layout.h5"
    files = [single] if single.exists() else sorted(tmp_path.glob("s_layout_0*.h5"))
    (tmp_path / "run.lst").write_text("".join(f"{file}\n" for file in files))
    # Panels that overlap in their datasets have no place in a list of peaks.
    searches = {
        "found": [
            "--peaks=zaef",
            f"--threshold={600 if name == 'odd order' else 10}",
            "--min-squared-gradient=1",
            "--min-snr=0.1",
            "--peak-radius=1,2,3",
        ]
    }
    if name != "stack":
        searches["given"] = [
            "--peaks=cxi" if read_geom(tmp_path / "s_layout.geom").peak_list_type == "cxi" else "--peaks=hdf5"
        ]
    for search, flags in searches.items():
        out = tmp_path / f"{search}.stream"
        command = ["indexamajig", "-i", "run.lst", "-g", "s_layout.geom", "-o", out, "--indexing=none", "-j", "1"]
        done = subprocess.run(
            [*command, *flags, "--no-check-peaks", "--no-revalidate"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stderr
        chunks = out.read_text().split("----- Begin chunk -----")[1:]
        assert len(chunks) == 3
        first_rows = dict(zip("ab", read_geom(tmp_path / "s_layout.geom").slab().first_rows, strict=True))
        with open_source(result.masters[0]) as source:
            for index, chunk in enumerate(chunks):
                lines = chunk.split("Panel\n")[1].split("End of peak list")[0].split("\n")[:-1]
                peaks = [(float(f), float(s) + first_rows[panel]) for f, s, _, _, panel in map(str.split, lines)]
                spots = source.truth(index)[1]
                if search == "given":
                    assert len(peaks) == len(spots)
                else:
                    assert peaks or spots["photons"].max() < 100.0
                for fast, slow in peaks:
                    apart = np.hypot(spots["fast"] - fast, spots["slow"] - slow).min()
                    # Cut at max_adu, seven photons, peaks of the odd order are flat.
                    assert apart < (0.01 if search == "given" else 2.0 if name == "odd order" else 1.0)


def test_counts_keep_their_type_and_every_frame_its_wavelength(tmp_path):
    path = tmp_path / "given.geom"
    path.write_text(LAYOUTS["slab"])
    base = series_on(path)
    series = Series(base.experiment, [{"wavelength_A": 1.0}, {"wavelength_A": 1.1}])
    series.write(tmp_path / "s", backend="cpu", counts="uint16")
    assert not list(tmp_path.glob("s_layout*"))
    assert (
        bragg.main(["export", str(tmp_path / "s_counts_master.h5"), "--layout", "geom", "-o", str(tmp_path / "t")]) == 0
    )
    geometry = read_geom(tmp_path / "t_layout.geom")
    data = tmp_path / "t_layout.h5"
    assert [geometry.wavelength_A(data, event) for event in (0, 1)] == pytest.approx([1.0, 1.1], rel=1e-12)
    with h5py.File(data) as file, open_source(tmp_path / "s_counts_master.h5") as source:
        counts = file["/entry_1/data_1/data"]
        assert counts.dtype == np.uint16 and counts.shape == (2, 54, 42)
        assert np.array_equal(counts[1, 1:25, 2:42], source.frame(1)[1:25, 2:42])


def test_a_layout_that_cannot_be_is_refused_before_any_work(tmp_path):
    path = tmp_path / "given.geom"
    path.write_text(text(b="b/dim3 = 0"))
    with pytest.raises(InputError, match="panel b must have the dimensions of a, whose data is the same"):
        series_on(path).write(tmp_path / "s", layout="geom")
    assert not list(tmp_path.glob("s*"))


def test_a_layout_needs_a_detector_that_is_where_its_geometry_has_it(tmp_path):
    path = tmp_path / "given.geom"
    path.write_text(LAYOUTS["slab"])
    series = series_on(path)
    detector = series.experiment.detector
    moved = (detector.panels[0].replace(origin_mm=(-2.0, -2.6, 31.0)), detector.panels[1])
    for other, sentence in (
        (detector.replace(panels=moved), "panel b must lie where the .geom has it"),
        (detector.replace(geometry_text=None), "geom is for detectors that were read from a .geom"),
        (Detector(n_fast=20, n_slow=20), "geom is for detectors that were read from a .geom"),
    ):
        with pytest.raises(InputError, match=sentence):
            Series(series.experiment.replace(detector=other), [{"phi_deg": 0.0}]).write(tmp_path / "t", layout="geom")
    assert not list(tmp_path.glob("t*"))
