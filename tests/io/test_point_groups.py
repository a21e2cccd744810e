"""CrystFEL's point groups, and lists that are expanded by them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bragg_numba.errors import InputError
from bragg_numba.io.point_groups import SYMBOLS, centring_allows, expand, operations

#: The order of each group, of any text on symmetry.
ORDERS = {
    **{"1": 1, "-1": 2, "2": 2, "m": 2, "2/m": 4, "222": 4, "mm2": 4, "mmm": 8},
    **{"4": 4, "-4": 4, "4/m": 8, "422": 8, "4mm": 8, "-42m": 8, "-4m2": 8, "4/mmm": 16},
    **{"3_R": 3, "-3_R": 6, "32_R": 6, "3m_R": 6, "-3m_R": 12, "3_H": 3, "-3_H": 6, "321_H": 6, "312_H": 6},
    **{"3m1_H": 6, "31m_H": 6, "-3m1_H": 12, "-31m_H": 12},
    **{"6": 6, "-6": 6, "6/m": 12, "622": 12, "6mm": 12, "-62m": 12, "-6m2": 12, "6/mmm": 24},
    **{"23": 12, "m-3": 24, "432": 24, "-43m": 24, "m-3m": 48},
}

#: A space group of gemmi's with the same images.
SPACE_GROUPS = {
    **{"2": "P 1 1 2", "m": "P 1 1 m", "2/m": "P 1 1 2/m", "2_uab": "P 1 2 1", "m_uab": "P 1 m 1", "2_uaa": "P 2 1 1"},
    **{"3_R": "R 3:R", "-3_R": "R -3:R", "32_R": "R 3 2:R", "3m_R": "R 3 m:R", "-3m_R": "R -3 m:R"},
    **{"3_H": "P 3", "-3_H": "P -3", "321_H": "P 3 2 1", "312_H": "P 3 1 2", "3m1_H": "P 3 m 1", "31m_H": "P 3 1 m"},
    **{"-3m1_H": "P -3 m 1", "-31m_H": "P -3 1 m", "-1": "P -1", "1": "P 1", "mmm": "P m m m", "222": "P 2 2 2"},
    **{"mm2": "P m m 2", "4/m": "P 4/m", "4": "P 4", "-4": "P -4", "4/mmm": "P 4/m m m", "422": "P 4 2 2"},
    **{"-42m": "P -4 2 m", "-4m2": "P -4 m 2", "4mm": "P 4 m m", "6/m": "P 6/m", "6": "P 6", "-6": "P -6"},
    **{"6/mmm": "P 6/m m m", "622": "P 6 2 2", "-62m": "P -6 2 m", "-6m2": "P -6 m 2", "6mm": "P 6 m m"},
    **{"23": "P 2 3", "m-3": "P m -3", "432": "P 4 3 2", "-43m": "P -4 3 m", "m-3m": "P m -3 m"},
}

GENERAL = np.array([3, 5, 11])


def images(symbol: str, index=GENERAL) -> set[tuple[int, ...]]:
    return {tuple(image.tolist()) for image in np.asarray(index) @ operations(symbol)}


def test_there_are_42_groups_of_the_right_order():
    assert set(SYMBOLS) == set(ORDERS) and len(SYMBOLS) == 42
    for symbol, order in ORDERS.items():
        assert len(operations(symbol)) == len(images(symbol)) == order, symbol
        with_inversion = symbol.startswith("-") and "3" in symbol and symbol != "-43m" or "/m" in symbol
        with_inversion |= symbol in ("-1", "mmm", "m-3", "m-3m")
        assert (tuple(-GENERAL) in images(symbol)) == with_inversion, symbol


@pytest.mark.parametrize("symbol", SPACE_GROUPS)
def test_images_are_those_of_gemmis_space_groups(symbol):
    gemmi = pytest.importorskip("gemmi", reason="gemmi is not installed")
    group = gemmi.SpaceGroup(SPACE_GROUPS[symbol]).operations()
    assert images(symbol) == {tuple(op.apply_to_hkl(GENERAL.tolist())) for op in group.sym_ops}


@pytest.mark.parametrize(
    ("symbol", "index", "expected"),
    [
        ("2", (1, 2, 3), {(1, 2, 3), (-1, -2, 3)}),
        ("2_uab", (1, 2, 3), {(1, 2, 3), (-1, 2, -3)}),
        ("2_uaa", (1, 2, 3), {(1, 2, 3), (1, -2, -3)}),
        ("m_uab", (1, 2, 3), {(1, 2, 3), (1, -2, 3)}),
        ("4_uaa", (1, 2, 3), {(1, 2, 3), (1, -3, 2), (1, -2, -3), (1, 3, -2)}),
        ("3_H", (1, 0, 2), {(1, 0, 2), (0, -1, 2), (-1, 1, 2)}),
        ("3_R", (1, 0, 2), {(1, 0, 2), (0, 2, 1), (2, 1, 0)}),
        ("mmm_uac ", (1, 0, 0), {(1, 0, 0), (-1, 0, 0)}),
    ],
)
def test_images_by_hand(symbol, index, expected):
    assert images(symbol, index) == expected


def test_trigonal_images_on_hexagonal_axes_keep_h_plus_k_plus_i():
    # The indices h, k and i = -h-k are cycled.
    cycled = {tuple(sorted((h, k, -h - k))) for h, k, _ in images("3_H", (2, 3, 4))}
    assert cycled == {(-5, 2, 3)}


@pytest.mark.parametrize(
    ("symbol", "hint"),
    [("3", "3_H or 3_R"), ("mmmm", "did you mean"), ("", "CrystFEL knows"), ("4/mm", "did you mean"), ("2_uad", "")],
)
def test_other_symbols_are_refused(symbol, hint):
    with pytest.raises(InputError, match=f"the point group must be one of CrystFEL's symbols, .*{hint}"):
        operations(symbol)


ASYMMETRIC = np.array([[1, 2, 3], [0, 0, 4], [2, 0, 1], [5, 5, 5]])
VALUES = np.array([10.0, 20.0, -3.0, 40.0])


@pytest.mark.parametrize("symbol", SYMBOLS)
def test_every_reflection_comes_once_with_its_value_and_friedel_mates_are_filled(symbol):
    expanded = expand(ASYMMETRIC, VALUES, symbol)
    table = {tuple(index.tolist()): value for index, value in zip(expanded.indices, expanded.values, strict=True)}
    assert len(table) == len(expanded.indices)
    for row, value in zip(ASYMMETRIC, VALUES, strict=True):
        for image in images(symbol, row):
            assert table[image] == table[tuple(-np.array(image))] == value
    assert set(table) == {i for row in ASYMMETRIC for i in images(symbol, row) | images(symbol, -row)}
    assert (expanded.values == VALUES[expanded.source]).all()
    listed = {i for row in ASYMMETRIC for i in images(symbol, row)}
    assert expanded.filled == len(table) - len(listed) and expanded.repeated == 0


@pytest.mark.parametrize("symbol", SYMBOLS)
def test_a_list_that_is_expanded_already_is_not_doubled(symbol):
    once = expand(ASYMMETRIC, VALUES, symbol)
    again = expand(once.indices, once.values, symbol)
    assert len(again.indices) == len(once.indices) and again.filled == 0
    order = [np.lexsort(e.indices.T) for e in (once, again)]
    assert (once.indices[order[0]] == again.indices[order[1]]).all()
    assert (once.values[order[0]] == again.values[order[1]]).all()
    unique = len({frozenset(images(symbol, row)) for row in once.indices})
    assert again.repeated == len(once.indices) - unique


def test_anomalous_differences_stay():
    expanded = expand([[1, 2, 3], [-1, -2, -3]], [5.0, 6.0], "222")
    table = {tuple(i): v for i, v in zip(expanded.indices.tolist(), expanded.values, strict=True)}
    assert table[1, -2, -3] == 5.0 and table[-1, 2, 3] == 6.0 and expanded.filled == 0


def test_equivalent_reflections_with_other_values_are_a_conflict():
    with pytest.raises(InputError, match=r"1 2 3 and -1 -2 3 must have one value, as they are equivalent in mmm"):
        expand([[1, 2, 3], [-1, -2, 3]], [5.0, 6.0], "mmm")
    assert expand([[1, 2, 3], [-1, -2, 3]], [5.0, 5.0000001], "mmm").repeated == 1
    assert expand([[1, 2, 3], [-1, -2, 3]], [5.0, 6.0], "mmm", tolerance=0.2).values.tolist() == [5.0] * 8


def test_lists_of_the_wrong_length_or_size_are_refused():
    with pytest.raises(InputError, match="values must be one for each of 2 reflections, got 1"):
        expand([[1, 2, 3], [1, 2, 4]], [5.0], "1")
    with pytest.raises(InputError, match="indices must not be beyond 262144"):
        expand([[1, 2, 262145]], [5.0], "1")
    assert len(expand(np.zeros((0, 3)), [], "m-3m").indices) == 0


@given(st.lists(st.tuples(*[st.integers(-262144, 262144)] * 3), min_size=1, max_size=5), st.sampled_from(SYMBOLS))
def test_no_two_reflections_are_taken_for_one(indices, symbol):
    expanded = expand(indices, np.zeros(len(indices)), symbol)
    assert len(np.unique(expanded.indices, axis=0)) == len(expanded.indices)
    expected = {i for row in indices for i in images(symbol, row) | images(symbol, -np.array(row))}
    assert {tuple(i) for i in expanded.indices.tolist()} == expected


def test_centrings():
    h, k, l = grid = np.mgrid[-3:4, -3:4, -3:4]  # noqa: E741
    indices = np.moveaxis(grid, 0, -1)
    assert centring_allows(indices, "P").all() and centring_allows(indices, "R").all()
    assert (centring_allows(indices, "I") == ((h + k + l) % 2 == 0)).all()
    assert (centring_allows(indices, "F") == ((h % 2 == k % 2) & (k % 2 == l % 2))).all()
    assert (centring_allows(indices, "H") == ((-h + k + l) % 3 == 0)).all()
    for centring, pair in (("A", k + l), ("B", h + l), ("C", h + k)):
        assert (centring_allows(indices, centring) == (pair % 2 == 0)).all()
    with pytest.raises(InputError, match="the centring must be one of"):
        centring_allows(indices, "X")
