"""Command lines that nobody would type, and files that are not what they should be.

Whatever comes, the command either writes whole files of finite photons, or says one sentence and writes nothing.
scripts/test draws 200 command lines, scripts/test --long 3000.
"""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from bragg_numba.cli.nanobragg import main
from bragg_numba.dialect.flags import FLAGS, REFUSED

INPUTS = Path(__file__).parents[1] / "golden" / "inputs"

#: Seconds for one command, compilation aside.
PATIENCE = 20.0

#: A detector and steps so small that whatever the other flags say is little work; the limit holds for all.
SMALL = ["-default_F", "50", "-N", "3", "-pixel", "2", "-detpixels", "24", "-oversample", "1", "-max-memory", "500M"]

WEIRD_NUMBERS = [
    "0", "-0", "-1", "1.5", "1e9", "99999999999", "-2147483648", "2147483647", "1e308", "-1e308", "1e999", "1e-300",
    "5e-324", "nan", "inf", "-inf", "NaN", "0x10", "1_0", "1,5", "", " ", "abc", "١٢", "--", "-N", "\0", "1e", "+3",
]  # fmt: skip
FILES = [
    "good.hkl",
    "good.mat",
    "good.src",
    "good.img",
    "Fdump.bin",
    "fuzz.file",
    "absent",
    ".",
    "",
    "/dev/null",
    "a/b",
]
WORDS = ["beam", "sample", "random", "rand", "nanobragg", "physical", "philox", "auto", "tile", "float64", "cpu", "inf"]

#: Sensible ranges; where a number of steps follows from two of them it stays below a hundred.
RANGES = {
    "osc": (0.0, 1.0),
    "phistep": (0.1, 1.0),
    "hdivrange": (0.0, 5.0),
    "vdivrange": (0.0, 5.0),
    "divergence": (0.0, 5.0),
    "hdivstep": (0.5, 5.0),
    "vdivstep": (0.5, 5.0),
    "lambda": (0.1, 20.0),
    "energy": (500.0, 50000.0),
    "pixel": (0.1, 10.0),
    "fluence": (0.0, 1e30),
    "xtalsize": (0.0, 1e-4),
    "polar": (-1.0, 1.0),
    "dispersion": (0.0, 10.0),
    "mosaic": (0.0, 5.0),
    "dmin": (0.0, 3.0),
    "misset": (-200.0, 200.0),
    "Xbeam": (-50.0, 50.0),
    "detector_rotx": (-200.0, 200.0),
    "twotheta": (-200.0, 200.0),
    "twotheta_axis": (-1.0, 1.0),
    "odet_vector": (-1.0, 1.0),
}
GOOD_FILES = {
    "hkl": "good.hkl",
    "mat": "good.mat",
    "sourcefile": "good.src",
    "img": "good.img",
    "mask": "good.img",
    "dump": "some.dump",
}
WORDS_OF = {"detector_abs": ["inf", "0", "300"], "max-memory": ["400M", "1e9", "1K"], "backend": ["auto", "cpu"]}
UNREAD = {"version", "h", "progress"}


def number(flag) -> st.SearchStrategy[str]:
    low, high = RANGES.get(flag.key, (0.01, 200.0))
    return st.floats(low, high).map(lambda x: f"{x:.4g}")


def sensible(flag, meaning: str, kind: str) -> st.SearchStrategy[str]:
    if kind == "file":
        good = GOOD_FILES.get(flag.key)
        return st.just(good) if good else st.sampled_from(["one.out", "two.out", "three.out"])
    if kind == "word":
        return st.sampled_from(WORDS_OF.get(flag.key) or meaning.split("|"))
    if kind == "integer":
        return st.integers(1, 24).map(str)
    return st.integers(0, 5).map(str) if kind == "count" else number(flag)


STRANGE = st.sampled_from(WEIRD_NUMBERS + WORDS + FILES) | st.text(max_size=6)


def tame_words(flag) -> st.SearchStrategy[list[str]]:
    """A flag with values that are sensible one by one."""
    if flag.key == "cell":
        lengths, angles = (st.tuples(*[st.floats(*span).map("{:.3f}".format)] * 3) for span in ((20, 130), (70, 110)))
        values = st.one_of(lengths, st.tuples(lengths, angles).map(lambda pair: pair[0] + pair[1]))
    elif flag.key == "misset":
        values = st.just(("random",)) | st.tuples(*[number(flag)] * 3)
    else:
        values = st.tuples(*(sensible(flag, *pair) for pair in flag.values))
    return st.tuples(st.sampled_from(flag.names), values).map(lambda pair: [pair[0], *pair[1]])


def wild_words(flag) -> st.SearchStrategy[list[str]]:
    """A flag with values of which one may be anything, or missing, or one too many."""
    return st.tuples(tame_words(flag), st.integers(1, 4), STRANGE, st.sampled_from("ccccdi")).map(spoil)


def spoil(drawn) -> list[str]:
    words, place, strange, how = drawn
    place = min(place, len(words) - 1)
    if how == "i" or place == 0:
        return [*words, strange]
    return words[:place] + ([strange] if how == "c" else []) + words[place + 1 :]


FLAG = st.sampled_from([flag for flag in FLAGS if flag.key not in UNREAD])
NOISE_WORDS = st.lists(st.text(max_size=8) | st.sampled_from([*REFUSED, "-detpixel", "-lamda"]), min_size=1, max_size=2)
TAME, WILD = FLAG.flatmap(tame_words), FLAG.flatmap(wild_words)
LINES = st.one_of(
    st.lists(TAME, max_size=8),
    st.tuples(st.lists(TAME, max_size=6), WILD).map(lambda pair: [*pair[0], pair[1]]),
    st.lists(st.one_of(TAME, WILD, NOISE_WORDS), max_size=6),
)
CONTENTS = st.one_of(
    st.binary(max_size=200),
    st.text(alphabet="0123456789 .-+eE\n\t#", max_size=200).map(str.encode),
    st.text(alphabet='{}=;\f\n SIZE12HEADERBYTES0"', max_size=200).map(
        lambda text: b"{\nHEADER_BYTES=" + text.encode()
    ),
    st.tuples(st.sampled_from(["2erl_P1.hkl", "sparse.hkl", "three.src", "tri.mat"]), st.integers(0, 400)),
)
DEFAULTS = {"floatimage.bin", "intimage.img", "noiseimage.img", "image.pgm"}


@pytest.fixture(scope="module", autouse=True)
def warm_kernels(tmp_path_factory):
    """Compile before the clock runs: float64, float32 phases of every kind, both kinds of noise."""
    import dataclasses

    from bragg_numba import Experiment, Simulator

    words = ["-cell", "50", *SMALL]
    simulator = Simulator(Experiment.from_nanobragg(words), precision="tile")
    renderer = simulator._renderer
    for split in (False, True):
        renderer.use(dataclasses.replace(renderer.choice, split=split))
        simulator.render()
    folder = tmp_path_factory.mktemp("warm")
    with contextlib.chdir(folder), contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        for noise in ("philox", "nanobragg"):
            assert main([*words, "-misset", "random", "-mosaic", "1", "-fluence", "1e30", "-noise", noise]) == 0


def lay_out(folder: Path, contents) -> None:
    """Good files of every kind, and one that is not."""
    shutil.copy(INPUTS / "sparse.hkl", folder / "good.hkl")
    shutil.copy(INPUTS / "tri.mat", folder / "good.mat")
    shutil.copy(INPUTS / "three.src", folder / "good.src")
    header = "{\nHEADER_BYTES=512;\nTYPE=unsigned_short;\nSIZE1=24;\nSIZE2=24;\nDISTANCE=80;\n}\f"
    (folder / "good.img").write_bytes(header.encode().ljust(512) + bytes(range(1, 25)) * 48)
    if isinstance(contents, tuple):  # a good file, cut short
        name, length = contents
        contents = (INPUTS / name).read_bytes()[:length]
    (folder / "fuzz.file").write_bytes(contents)


@given(
    line=LINES,
    contents=CONTENTS,
    with_cell=st.sampled_from([True] * 7 + [False]),
    cache=st.sampled_from([False] * 5 + [True]),
)
def test_any_command_line_ends_in_whole_files_or_one_sentence(line, contents, with_cell, cache):
    words = [*(["-cell", "50", "60", "70", "80", "90", "100"] if with_cell else []), *SMALL]
    words += [word for part in line for word in part]
    with tempfile.TemporaryDirectory() as name, contextlib.chdir(name):
        folder = Path(name)
        lay_out(folder, contents)
        if cache:
            shutil.copy("fuzz.file", "Fdump.bin")
        before = snapshot(folder)
        out, err = io.StringIO(), io.StringIO()
        started = time.perf_counter()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            status = main(words)
        assert time.perf_counter() - started < PATIENCE
        event(f"status {status}")
        assert status in (0, 2)
        assert "Traceback" not in err.getvalue() + out.getvalue()
        after = snapshot(folder)
        assert not [path for path in after if path.endswith(".part")]
        if status == 2:
            errors = [text for text in err.getvalue().splitlines() if text.startswith("error: ")]
            assert len(errors) == 1
            assert after == before
        else:
            written = {path for path in after if after[path] != before.get(path)}
            assert written or "/dev/null" in words
            assert_whole(folder, written)


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def assert_whole(folder: Path, written: set[str]) -> None:
    """Photons are finite and not negative; the files belong to one detector."""
    if "floatimage.bin" in written:
        image = np.fromfile(folder / "floatimage.bin", dtype="<f4")
        assert image.size > 0
        assert np.isfinite(image).all()
        assert (image >= 0).all()
        if "intimage.img" in written:
            assert os.path.getsize(folder / "intimage.img") == 512 + 2 * image.size


@given(data=st.binary(max_size=400), flag=st.sampled_from(["-hkl", "-mat", "-sourcefile", "-img", "-mask", "-dump"]))
def test_any_bytes_in_any_input_file_are_read_or_refused(data, flag):
    words = ["-cell", "50", *SMALL, flag, "fuzz.file", "-floatfile", "floatimage.bin"]
    with tempfile.TemporaryDirectory() as name, contextlib.chdir(name):
        Path("fuzz.file").write_bytes(data)
        err = io.StringIO()
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(err):
            status = main(words)
        assert status in (0, 2)
        if status == 2:
            assert os.listdir() == ["fuzz.file"]
        else:
            assert_whole(Path(), {"floatimage.bin"})
