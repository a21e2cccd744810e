"""Every command line of golden.h5 through the command, against what nanoBragg.c wrote for it.

tests/golden/README.md says where the file comes from and what agreement it asks for.
"""

from __future__ import annotations

import contextlib
import io
import json
import re
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest

from bragg_numba.cli.nanobragg import main
from bragg_numba.tolerances import RELATIVE, allowed

GOLDEN = Path(__file__).parent / "golden"
BLOCK = 64

#: golden/README.md: relative, of the brightest pixel, of the whole sum, and the least correlation.
OF_SUM, CORRELATION = 1e-6, 0.9999999

with h5py.File(GOLDEN / "golden.h5") as _file:
    CASES = sorted(_file)
    WITH_BYTES = [name for name in CASES if "smv_noise" in _file[name]]
    FLAGS = {name: set(json.loads(_file[name].attrs["argv"])) for name in CASES}

#: C divides the solid angle by all its steps, though it adds it once for each source, orientation and layer.
SEVERAL_STEPS = {
    "-divergence",
    "-detector_thick",
    "-dispersion",
    "-hdivrange",
    "-mosaic",
    "-mosaic_spread",
    "-osc",
    "-oversample_omega",
    "-sourcefile",
}


class Rendered:
    """What the command made of one case, beside the golden group."""

    def __init__(self, name: str, folder: Path, printed: str) -> None:
        self.name, self.folder, self.printed = name, folder, printed
        with h5py.File(GOLDEN / "golden.h5") as file:
            group = file[name]
            self.shape = tuple(int(n) for n in group.attrs["shape"])
            self.sum, self.max = float(group.attrs["sum"]), float(group.attrs["max"])
            self.golden = {key: group[key][()] for key in group if not key.startswith("trace")}
            self.origin = tuple(group["centre"].attrs["origin_slow_fast"]) if "centre" in group else None
        self.stdout = bytes(self.golden["stdout"]).decode()
        self.image = np.fromfile(folder / "f.bin", dtype="<f4").reshape(self.shape)

    def bytes_of(self, name: str) -> bytes:
        return (self.folder / name).read_bytes()


@pytest.fixture(scope="module", params=CASES)
def case(request, tmp_path_factory):
    """One case, rendered once for all its tests."""
    name = request.param
    folder = tmp_path_factory.mktemp(name)
    for source in (GOLDEN / "inputs").iterdir():
        shutil.copy(source, folder)
    with h5py.File(GOLDEN / "golden.h5") as file:
        words = json.loads(file[name].attrs["argv"])
    files = ["-floatfile", "f.bin", "-intfile", "i.img"]
    if name in WITH_BYTES:
        files += ["-noisefile", "n.img", "-pgmfile", "p.pgm"]
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(io.StringIO()) as printed:
        patch.chdir(folder)
        status = main([*words, *files])
    assert status == 0
    yield Rendered(name, folder, printed.getvalue())
    shutil.rmtree(folder)


def golden_pixels(case: Rendered) -> tuple[np.ndarray, np.ndarray]:
    """The reference's pixels that the file holds, and ours at the same places."""
    golden = case.golden
    if "image" in golden:
        return golden["image"].ravel(), case.image.ravel()
    slow, fast = case.origin
    centre = golden["centre"]
    window = case.image[slow : slow + centre.shape[0], fast : fast + centre.shape[1]]
    theirs = np.concatenate([golden["sample_value"], centre.ravel()])
    return theirs, np.concatenate([case.image.ravel()[golden["sample_index"]], window.ravel()])


def block_sums(image: np.ndarray) -> np.ndarray:
    rows = np.add.reduceat(image.astype(np.float64), np.arange(0, image.shape[0], BLOCK), axis=0)
    return np.add.reduceat(rows, np.arange(0, image.shape[1], BLOCK), axis=1)


def test_the_image_is_that_of_the_c_program(case):
    theirs, ours = (pixels.astype(np.float64) for pixels in golden_pixels(case))

    assert np.isfinite(case.image).all()
    limit = allowed(theirs, case.max)
    worst = np.max(np.abs(ours - theirs) / limit)
    assert worst <= 1.0
    assert abs(case.image.sum(dtype=np.float64) / case.sum - 1.0) <= OF_SUM
    assert np.corrcoef(ours, theirs)[0, 1] >= CORRELATION
    assert case.image.max() == pytest.approx(case.max, rel=RELATIVE)
    if "block_sum" in case.golden:
        sums = block_sums(case.image)
        # The pixels' allowances add up.
        slack = allowed(case.golden["block_sum"], case.max * BLOCK * BLOCK)
        assert (np.abs(sums - case.golden["block_sum"]) <= slack).all()


def test_the_header_is_that_of_the_c_program(case):
    assert case.bytes_of("i.img")[:512] == bytes(case.golden["smv_header"])


@pytest.mark.parametrize("case", WITH_BYTES, indirect=True)
def test_the_integer_noise_and_grey_images_are_those_of_the_c_program_byte_for_byte(case):
    assert case.bytes_of("i.img") == bytes(case.golden["smv_int"])
    assert case.bytes_of("n.img") == bytes(case.golden["smv_noise"])
    assert case.bytes_of("p.pgm") == bytes(case.golden["pgm"])


_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?")

#: Lines that must be found in both reports, with # for their numbers.
REQUIRED = (
    "XDS incident beam: # # #",
    "Unit Cell: # # # # # #",
    "volume = # A^#",
    "crystal is # x # x # microns",
    "created a total of # mosaic domains",
    "# initialized hkls (all others =#)",
    "distance=# detsize=#x# pixel=# meters (#x# pixels)",
    "Xbeam=# Ybeam=#",
    "Fbeam=# Sbeam=#",
    "Xclose=# Yclose=#",
    "Fclose=# Sclose=#",
    "DIRECTION_OF_DETECTOR_X-AXIS= # # #",
    "DIRECTION_OF_DETECTOR_Y-AXIS= # # #",
    "DIRECTION_OF_DETECTOR_Z-AXIS= # # #",
    "INCIDENT_BEAM_DIRECTION= # # #",
    "dials origin= # # #",
    "hdivrange=# hdivstep=# radians",
    "# sources",
    "# mosaic domains over mosaic spread of # degrees",
    "# phi steps from # to # degrees",
    "incident fluence: # photons/m^#",
    "sensor is # m thick in # layers with mu= #",
    "max_I = # at # #",
    "mean= # rms= # rmsd= #",
)

#: Lines where the two programs mean different things.
DIFFERENT = (
    "Recp Cell: # # # # # #",  # C takes sines from a volume that its own skewed vectors do not have
    "roi: # < x < # && # < y < #",  # C does not clip its default to the detector
)


def numbers_by_line(text: str) -> dict[str, list[list[float]]]:
    """Numbers of each line of a report by the line's words; a line may occur more than once."""
    found: dict[str, list[list[float]]] = {}
    for line in text.splitlines():
        numbers = [float(word) for word in _NUMBER.findall(line)]
        words = " ".join(_NUMBER.sub("#", line).split())
        if numbers and not line.startswith(("plan ", "wrote ")):
            found.setdefault(words, []).append(numbers)
    return found


def test_the_derived_geometry_is_that_of_the_c_program(case):
    theirs, ours = numbers_by_line(case.stdout), numbers_by_line(case.printed)

    assert [line for line in REQUIRED if line not in theirs or line not in ours] == []
    assert [len(theirs[f"{axis}: # # #"]) for axis in "XYZ"] == [2, 2, 2]  # real and reciprocal cell
    for line in (set(theirs) & set(ours)) - set(DIFFERENT):
        if line.startswith("solid angle") and FLAGS[case.name] & SEVERAL_STEPS:
            continue
        if line == "# divergence steps" and "-sourcefile" in FLAGS[case.name]:
            continue  # C leaves it at -1
        # Both print six digits: half a unit of the last one each, and 1e-12 where a zero was rounded.
        for one, two in zip(theirs[line], ours[line], strict=True):
            assert two == pytest.approx(one, rel=2e-5, abs=1e-12), line
