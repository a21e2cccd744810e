"""Where compiled kernels are kept: never out of date, never in the way. Each test runs small kernels in processes."""

from __future__ import annotations

import json
import os
import resource
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

EQUATION = """
from bragg_numba.kernels._jit import device_function


@device_function
def equation(x):
    return 2.0 * x
"""

#: A kernel that Python calls and one that kernels call by its address, both of which inline the equation.
KERNELS = """
from bragg_numba.kernels import toy_equation
from bragg_numba.kernels._jit import addressed_serial_kernel, serial_kernel
from numba import types


@serial_kernel
def called(x):
    return toy_equation.equation(x)


def made(shift):
    @addressed_serial_kernel(types.float64)
    def addressed(x):
        return toy_equation.equation(x) + shift

    return addressed


addressed, other = made(100.0), made(200.0)
"""

#: The copy, not what an editable installation maps the kernels' name to.
BEGIN = "import sys\nsys.meta_path[:] = [one for one in sys.meta_path if 'editable' not in repr(one)]\n"

RUN = """
import json
from bragg_numba.kernels import toy
addressed = toy.addressed.given(1.0)._kernel
found = {"called": toy.called(3.0), "addressed": addressed.ctypes(3.0)}
if len(sys.argv) > 1:
    found["other"] = toy.other.given(1.0)._kernel.ctypes(3.0)
found["compiled"] = sum(toy.called.stats.cache_misses.values()) + (addressed.cache_hits == 0)
print(json.dumps(found))
"""

FRESH, KEPT = {"called": 6.0, "addressed": 106.0, "compiled": 2}, {"called": 6.0, "addressed": 106.0, "compiled": 0}


class Package:
    """A copy of the package with two kernels more, to be changed and run."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.site, self.cache = folder, folder / "site", folder / "cache"
        self.temporary, self.kernels = folder / "temporary", self.site / "bragg_numba" / "kernels"

    @classmethod
    def make(cls, folder: Path) -> Package:
        made = cls(folder)
        made.temporary.mkdir(parents=True)
        made.kernels.parent.mkdir(parents=True)
        for name in ("__init__.py", "versions.py"):
            shutil.copy(ROOT / "bragg_numba" / name, made.kernels.parent)
        shutil.copytree(ROOT / "kernels", made.kernels, ignore=shutil.ignore_patterns("__pycache__"))
        (made.kernels / "toy_equation.py").write_text(EQUATION)
        (made.kernels / "toy.py").write_text(KERNELS)
        return made

    def copy(self, folder: Path) -> Package:
        """With its compiled kernels, which do not mind where they are."""
        shutil.copytree(self.folder, folder)
        return Package(folder)

    def start(self, before: str = "", *words: str, limit=None, **variables) -> subprocess.Popen:
        usual = {"NUMBA_CACHE_DIR": str(self.cache), "TMPDIR": str(self.temporary), "PYTHONDONTWRITEBYTECODE": "1"}
        usual["BRAGG_NUMBA_VECTOR_BITS"] = ""
        env = {**os.environ, "PYTHONPATH": str(self.site), **usual, **variables}
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        command = [sys.executable, "-c", f"{BEGIN}{before}\n{RUN}", *words]
        return subprocess.Popen(command, env=env, cwd=self.folder, preexec_fn=limit, **pipes)

    def run(self, before: str = "", *words: str, **options) -> tuple[dict, str]:
        """What the kernels gave and how many were compiled, and stderr."""
        return _result(self.start(before, *words, **options))

    def change_equation(self, factor: str) -> None:
        """Change the equation in place: neither size nor time of its file tell."""
        path = self.kernels / "toy_equation.py"
        times = os.stat(path)
        path.write_text(EQUATION.replace("2.0", factor))
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))

    def files(self) -> list[Path]:
        return sorted(self.cache.rglob("*.nbc"))


def _result(process: subprocess.Popen) -> tuple[dict, str]:
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    return json.loads(out.splitlines()[-1]), err


@pytest.fixture
def package(tmp_path):
    return Package.make(tmp_path / "package")


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    made = Package.make(tmp_path_factory.mktemp("template"))
    assert made.run() == (FRESH, "")
    return made


@pytest.fixture
def warm(template, tmp_path):
    """A package whose kernels are in its cache."""
    return template.copy(tmp_path / "package")


def test_a_change_of_what_a_kernel_inlines_is_rendered_and_going_back_compiles_nothing(warm):
    assert warm.run() == (KEPT, "")
    warm.change_equation("7.0")

    assert warm.run()[0] == {"called": 21.0, "addressed": 121.0, "compiled": 2}
    warm.change_equation("2.0")
    assert warm.run() == (KEPT, "")


def test_kernels_of_one_function_over_other_constants_keep_apart(warm):
    assert warm.run("", "other")[0] == {**KEPT, "other": 206.0}
    assert warm.run("", "other")[0] == {**KEPT, "other": 206.0}


def test_checkouts_that_share_a_folder_keep_apart(warm, tmp_path):
    other = Package.make(tmp_path / "other")
    other.cache = warm.cache
    assert other.run() == (KEPT, "")  # the same sources, wherever they are
    other.change_equation("7.0")

    assert other.run()[0]["called"] == 21.0
    assert warm.run() == (KEPT, "")
    assert other.run()[0] == {"called": 21.0, "addressed": 121.0, "compiled": 0}


@pytest.mark.parametrize(
    "before",
    [
        "import numba; numba.__version__ = '0.59.0'",
        "import numba, llvmlite; llvmlite.__version__ = '0.42.0'",
        "import sys; sys.implementation.cache_tag = 'cpython-310'",
        "from numba import config; config.BOUNDSCHECK = 1",
        "from numba import config; config.CPU_NAME, config.CPU_FEATURES = 'nehalem', ''",
    ],
)
def test_what_another_compiler_made_is_not_used(warm, before):
    assert warm.run(before)[0] == FRESH


def test_kernels_with_vectors_of_another_length_keep_apart(warm):
    assert warm.run(BRAGG_NUMBA_VECTOR_BITS="256")[0] == FRESH

    for length in ("", "512", "256"):
        assert warm.run(BRAGG_NUMBA_VECTOR_BITS=length) == (KEPT, "")


def test_a_process_whose_sources_change_under_it_keeps_nothing(package):
    change = f"import pathlib; pathlib.Path({str(package.kernels / 'toy_equation.py')!r})"
    before = f"import bragg_numba.kernels._jit; {change}.write_text({EQUATION.replace('2.0', '7.0')!r})"

    assert package.run(before)[0]["called"] == 21.0  # what it imported
    assert package.files() == []


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def _make_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()
    (path / "in the way").touch()


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


DAMAGES = {
    "empty and cut": (lambda path: path.write_bytes(b""), _cut),
    "flipped and a folder": (_flip, _make_folder),
    "garbage and dangling": (
        lambda path: path.write_bytes(os.urandom(5000)),
        lambda path: (path.unlink(), path.symlink_to("nowhere")),
    ),
}


@pytest.mark.parametrize("damages", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_file_is_thrown_away_and_made_again(warm, damages):
    for damage, path in zip(damages, warm.files(), strict=True):
        damage(path)

    assert warm.run() == (FRESH, "")
    assert warm.run() == (KEPT, "")


def test_where_the_folder_cannot_be_written_a_temporary_one_serves_and_one_note_says_so(package):
    package.cache.write_text("a file, where a folder should be")

    found, said = package.run()

    assert found == FRESH
    assert said.count("CacheWarning: ") == 1
    assert f"cannot be kept in {package.cache}" in said and f"kept in {package.temporary}" in said
    home = package.temporary / f"bragg_numba-{os.getuid()}"
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    assert package.run() == (KEPT, "")


def test_a_temporary_folder_in_which_others_can_write_is_not_trusted(warm):
    home = warm.temporary / f"bragg_numba-{os.getuid()}"
    (warm.cache / "bragg_numba").rename(home)
    home.chmod(0o770)
    shutil.rmtree(warm.cache)
    warm.cache.write_text("a file, where a folder should be")

    found, said = warm.run()

    assert found == FRESH
    assert "the next process will have to compile them again" in said


def test_a_full_disk_costs_the_next_process_time_and_nothing_else(package):
    found, said = package.run(limit=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000)))

    assert found == FRESH
    assert said.count("CacheWarning: ") == 1
    assert f"{package.cache}/bragg_numba (File too large)" in said
    assert not list(package.folder.rglob("*.part"))


def test_processes_that_begin_at_the_same_time_do_not_meet(package):
    processes = [package.start() for _ in range(3)]
    found = [_result(process) for process in processes]  # how many each of them compiles is chance

    assert [(one["called"], one["addressed"], said) for one, said in found] == [(6.0, 106.0, "")] * 3
    assert package.run() == (KEPT, "")


def test_the_folders_of_long_gone_sources_are_removed(warm):
    home = warm.cache / "bragg_numba"
    (mine,) = home.iterdir()
    for age in range(1, 12):
        old = home / f"{age:032x}"
        old.mkdir()
        os.utime(old, (0, 1e9 - age))
    warm.change_equation("7.0")
    assert warm.run()[0]["called"] == 21.0

    kept = {path.name for path in home.iterdir()}

    assert len(kept) == 8 and {mine.name, f"{1:032x}"} < kept


def test_without_a_name_for_the_folder_kernels_lie_beside_the_package(package):
    assert package.run(NUMBA_CACHE_DIR="") == (FRESH, "")
    assert len(list((package.kernels / "__pycache__").rglob("*.nbc"))) == 2
    assert package.run(NUMBA_CACHE_DIR="") == (KEPT, "")
