"""Groups of panels that CrystFEL moves together: the hierarchy of 0.11 and later, and rigid groups before."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

__all__ = ["MOST_CHILDREN", "MOST_GROUPS", "Groups", "derive_groups", "derive_rigid_groups", "is_legal", "legal_names"]

#: What CrystFEL takes: members of a group; groups in all, where every panel counts as one.
MOST_CHILDREN, MOST_GROUPS = 64, 512

#: Up to CrystFEL 0.11 there were half as many: fewer groups are made where that helps.
_MOST_GROUPS_BEFORE = 256

Groups = tuple[tuple[str, tuple[str, ...]], ...]

#: Parts of names: p0a3 is part 3 of module p0, q1a12 part 12 of quadrant q1.
_PART = re.compile(r"(.*\d)[a-z_.-]+\d+", re.ASCII | re.IGNORECASE)


def is_legal(name: str) -> bool:
    """Whether a .geom can hold a panel of that name."""
    return bool(name) and not name.startswith(("bad", "group", "rigid_group")) and not re.search(r"[/;=,\s]", name)


def legal_names(names: Sequence[str]) -> tuple[str, ...]:
    """Return names that a .geom can hold, as near to those given as may be: of a path its last part.

    All become p0, p1 ... where two would come to be the same.
    """
    found = [re.sub(r"[;=,\s]+", "_", name.rstrip("/").rpartition("/")[2]) for name in names]
    found = [name if is_legal(name) else f"p_{name}" for name in found]
    if len(set(found)) < len(found):
        found = [f"p{place}" for place in range(len(found))]
    return tuple(found)


def derive_groups(names: Sequence[str], rigid_groups: Groups) -> Groups:
    """Return a hierarchy over all panels that ends in the group ``all``; the lowest groups come first.

    Sets of panels that hold each other or are apart become its groups: those of ``rigid_groups``, or else the modules
    that the panels' names tell of (p0a3 is a part of p0). Where a group would have too many members, runs of
    them become groups of their own. A group of one is none. Beside a panel that is called ``all`` there are none.
    """
    if "all" in names:
        return ()
    sets = {name: frozenset(members) for name, members in rigid_groups}
    if not _is_nested(sets.values(), frozenset(names)):
        sets = {}
    if not any(1 < len(members) < len(names) for members in sets.values()):
        sets = _modules(names)
    sets = {name: members for name, members in sets.items() if 1 < len(members) < len(names)}
    if len(names) + len(sets) + 1 > MOST_GROUPS:
        sets = {}
    taken: set[str] = {*names, "all"}
    groups: list[tuple[str, tuple[str, ...]]] = []
    # Of equal sets one is enough.
    distinct = {members: name for name, members in reversed(sets.items())}
    tops = list(names)  # what no group holds yet, in the order of the panels
    for members, name in sorted(distinct.items(), key=lambda item: (len(item[0]), names.index(min(item[0])))):
        free = name if name not in taken else next(n for i in range(len(taken) + 1) if (n := f"g{i}") not in taken)
        held = {free: members} | {n: frozenset([n]) for n in names}
        held |= _leaves(tuple(groups))
        children = [top for top in tops if held[top] <= members]
        place = tops.index(children[0])
        children = _in_runs(children, groups, taken, free)
        tops = [top for top in tops if not held[top] <= members]
        tops.insert(min(place, len(tops)), free)
        groups.append((free, tuple(children)))
        taken.add(free)
    groups.append(("all", tuple(_in_runs(tops, groups, taken, "part"))))
    return tuple(groups)


def derive_rigid_groups(names: Sequence[str], groups: Groups) -> tuple[Groups, Groups]:
    """Return rigid groups of panels, and their collections, of a hierarchy: one collection for each of its levels."""
    leaves, heights = _leaves(groups), _heights(groups)
    rigid = tuple((name, tuple(panel for panel in names if panel in leaves[name])) for name, _ in groups)
    levels: dict[int, list[str]] = {}
    for name, _ in groups:
        levels.setdefault(heights[name], []).append(name)
    words = {1: "modules", max(levels, default=1): "all"}
    collections = tuple(
        (words.get(level, "quadrants" if level == 2 else f"level{level}"), tuple(members))
        for level, members in sorted(levels.items())
    )
    return rigid, collections


def _in_runs(children: list[str], groups: list[tuple[str, tuple[str, ...]]], taken: set[str], stem: str) -> list[str]:
    """Return at most as many children as a group may have: where there are more, runs of them in new groups."""
    while len(children) > MOST_CHILDREN:
        # As few groups as can be, of equal size.
        number = -(-len(children) // MOST_CHILDREN)
        size = -(-len(children) // number)
        runs = [children[first : first + size] for first in range(0, len(children), size)]
        children = []
        for run in runs:
            name = next(n for i in range(len(taken) + 1) if (n := f"{stem}_{i}") not in taken)
            taken.add(name)
            groups.append((name, tuple(run)))
            children.append(name)
    return children


def _modules(names: Sequence[str]) -> dict[str, frozenset[str]]:
    """Sets of panels whose names say that they are parts of one thing, by its name, and sets of such things.

    q0m1a2 is a part of q0m1, and that of q0. None if some panel's name does not say such a thing.
    """
    found: dict[str, set[str]] = {}
    level = {name: name for name in names}  # each panel's part, one step up each time
    while True:
        parts = {panel: _PART.fullmatch(part) for panel, part in level.items()}
        level = {panel: part[1] for panel, part in parts.items() if part is not None}
        if len(level) < len(names):
            break
        for panel, part in level.items():
            found.setdefault(part, set()).add(panel)
    if len(names) + len(found) + 1 > _MOST_GROUPS_BEFORE >= len(names) + 1 + -(-len(names) // MOST_CHILDREN):
        return {}
    return {name: frozenset(members) for name, members in found.items()}


def _is_nested(sets: Iterable[frozenset[str]], names: frozenset[str]) -> bool:
    """Whether all are sets of panels, and any two hold each other or are apart."""
    found = sorted(set(sets), key=len)
    if not all(members <= names for members in found):
        return False
    home: dict[str, int] = {}  # the smallest set so far that holds a panel, and all sets it is in
    for place, members in enumerate(found):
        inside = {home[name] for name in members if name in home}
        if any(not found[smaller] <= members for smaller in inside):
            return False
        home |= dict.fromkeys(members, place)
    return True


def _leaves(groups: Groups) -> dict[str, frozenset[str]]:
    """The panels of each group; a group's members come before it."""
    found: dict[str, frozenset[str]] = {}
    for name, members in groups:
        found[name] = frozenset().union(*(found.get(member, frozenset([member])) for member in members))
    return found


def _heights(groups: Groups) -> dict[str, int]:
    """How many levels of groups each group has, itself included."""
    found: dict[str, int] = {}
    for name, members in groups:
        found[name] = 1 + max((found.get(member, 0) for member in members), default=0)
    return found
