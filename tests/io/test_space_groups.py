"""Space groups as arrays: against gemmi's table of them, and by hand."""

from __future__ import annotations

import gemmi
import numpy as np
import pytest

from bragg_numba.errors import InputError
from bragg_numba.io.space_groups import find_space_group, from_operations, from_triplets

INDICES = np.array([(h, k, l) for h in range(-6, 7) for k in range(-6, 7) for l in range(-6, 7)])  # noqa: E741


def test_every_setting_of_every_group_extinguishes_what_gemmi_says():
    for setting in gemmi.spacegroup_table():
        expected = setting.operations().systematic_absences(INDICES.astype(np.int32))
        group = from_operations(setting.operations(), setting.xhm())
        assert np.array_equal(group.extinct(INDICES), expected), setting.xhm()
        assert group.can_extinguish == bool(expected.any()) or not expected.any(), setting.xhm()


@pytest.mark.parametrize(
    ("name", "angles", "found"),
    [
        ("H 3", (), "R 3:H"),
        ("R 3 :H", (), "R 3:H"),
        ("R 3", (90.0, 90.0, 120.0), "R 3:H"),
        ("R 3", (80.0, 80.0, 80.0), "R 3:R"),
        ("P212121", (), "P 21 21 21"),
        ("  P   21 21 21 ", (), "P 21 21 21"),
        ("19", (), "P 21 21 21"),
        ("-P 2yn", (), "P 1 21/n 1"),
        ("C 2", (), "C 1 2 1"),
    ],
)
def test_a_group_is_found_by_the_names_that_files_use(name, angles, found):
    assert find_space_group(name, angles).name == found


@pytest.mark.parametrize("name", ["", "nonsense", "P 99", "9999"])
def test_a_name_of_no_group_is_refused(name):
    with pytest.raises(InputError, match="must be a space group"):
        find_space_group(name)


def test_operations_make_the_group_they_are_of():
    assert from_triplets(["x,y,z", "'-x,y+1/2,-z'"]).name == "P 1 21 1"
    assert len(from_triplets(["x,y,z", "x+1/2,y+1/2,z", "-x,y,-z", "-x+1/2,y+1/2,-z"]).centrings) == 2


@pytest.mark.parametrize(
    "triplets", [["x,y"], ["x,y,z", "-x,y+1/2,z+1/3"], ["x,y,z", "-y,x-y,z"], ["x,y,z", "hello"]], ids=str
)
def test_operations_that_are_no_group_are_refused(triplets):
    with pytest.raises(InputError, match="symmetry operations"):
        from_triplets(triplets)
