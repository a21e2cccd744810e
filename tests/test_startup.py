"""From a program's start to its first pixel: what is loaded, what is said, how it ends."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numba
import numpy as np
import pytest

from bragg_numba import Experiment, simulate
from bragg_numba.cli.console import compilation_announced
from bragg_numba.tolerances import OF_BRIGHTEST, RELATIVE

LINE = "-cell 100 100 100 90 90 90 -default_F 100 -N 5 -detpixels 32 -oversample 2 -mosaic 1 -mosaic_dom 2"
SENTENCE = "compiling kernels for this machine, once: half a minute or more"


def _python(code: str, *words: str) -> subprocess.CompletedProcess:
    """Run Python code in a process of its own, which shares this one's cache of kernels."""
    return subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True)


#: What numba registers before it compiles: half of the time to the first pixel.
COMPILER = {"numba.np.arraymath", "numba.cpython.setobj", "scipy.linalg"}


def _modules_after(code: str) -> set[str]:
    done = _python(f"import json, sys\n{code}\nprint(json.dumps(sorted(sys.modules)))")
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_importing_the_package_loads_nothing_heavy():
    loaded = {name.split(".")[0] for name in _modules_after("import bragg_numba")}

    assert not loaded & {"numba", "numpy", "h5py", "scipy", "rich", "PIL"}


def test_a_process_that_compiles_loads_what_the_tests_below_look_for():
    assert _modules_after("import numba\nnumba.njit(lambda x: x + 1)(1)") >= COMPILER


def test_a_second_process_loads_its_kernels_without_the_compiler():
    code = f"from bragg_numba import *\nsimulate(Experiment.from_nanobragg({LINE!r}))"
    _modules_after(code)  # fills the cache

    loaded = _modules_after(code)

    assert not loaded & {*COMPILER, "h5py"}


def test_a_warm_command_loads_what_it_needs_and_announces_nothing(tmp_path):
    words = [*LINE.split(), "-floatfile", str(tmp_path / "f.bin")]
    code = "import json, sys\nfrom bragg_numba.cli.nanobragg import main\nstatus = main(sys.argv[1:])\n"
    code += "print(json.dumps(sorted(sys.modules)))\nsys.exit(status)"
    _python(code, *words)  # fills the cache

    done = _python(code, *words)

    assert (done.returncode, done.stderr) == (0, "")
    loaded = set(json.loads(done.stdout.splitlines()[-1]))
    assert not loaded & {*COMPILER, "h5py", "hdf5plugin", "rich", "PIL"}


@pytest.mark.parametrize("precision", ["tile", "float64"])
def test_kernels_run_uncompiled_under_a_debugger(precision):
    words = LINE.replace("-detpixels 32", "-detpixels 4")
    code = "import sys\nfrom bragg_numba import *\n"
    code += f"frame = simulate(Experiment.from_nanobragg({words!r}), precision={precision!r})\nprint(frame.tolist())"

    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, "NUMBA_DISABLE_JIT": "1"},
    )

    assert done.returncode == 0, done.stderr
    compiled = simulate(Experiment.from_nanobragg(words), precision=precision)
    np.testing.assert_allclose(json.loads(done.stdout), compiled, rtol=RELATIVE, atol=OF_BRIGHTEST * compiled.max())


def test_kernels_that_have_to_be_compiled_are_announced_once(capsys):
    def plus_one(x):
        return x + 1

    with compilation_announced():
        assert numba.njit(plus_one)(1) == 2
        assert numba.njit(plus_one)(1.0) == 2.0

    assert capsys.readouterr().err == f"{SENTENCE}\n"


def test_compiled_kernels_are_not_announced(capsys):
    plus_one = numba.njit(lambda x: x + 1)
    plus_one(1)

    with compilation_announced():
        plus_one(1)

    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("status", [0, 2, 130])
def test_a_command_that_leaves_has_flushed_and_keeps_its_status(status):
    code = "import atexit, sys\nfrom bragg_numba.cli.console import leave\natexit.register(print, 'last')\n"
    code += "print('first')\nleave(int(sys.argv[1]))"

    done = _python(code, str(status))

    assert (done.returncode, done.stdout, done.stderr) == (status, "first\nlast\n", "")


def test_leaving_under_a_profiler_ends_the_process_as_usual():
    code = "import sys\nfrom bragg_numba.cli.console import leave\nsys.setprofile(lambda *_: None)\n"
    code += "try:\n    leave(3)\nexcept SystemExit as end:\n    print('status', end.code)"

    assert _python(code).stdout == "status 3\n"
