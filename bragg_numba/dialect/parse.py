"""From words to flags with values, in order; nothing is ignored."""

from __future__ import annotations

import difflib
import math
import shlex
import sys
from dataclasses import dataclass

from bragg_numba.dialect.flags import BY_NAME, REFUSED, Flag
from bragg_numba.errors import InputError


@dataclass(frozen=True, slots=True)
class Given:
    """One flag as it was given."""

    flag: Flag
    name: str
    values: tuple


def split_words(words) -> list[str]:
    """Split a command line into words as a shell does; a list passes through. A leading program name is dropped.

    On Windows a backslash stands for itself: it parts folders.
    """
    if isinstance(words, str):
        splitter = shlex.shlex(words, posix=True, punctuation_chars=False)
        splitter.whitespace_split, splitter.commenters = True, ""
        if sys.platform == "win32":
            splitter.escape = ""
        try:
            words = list(splitter)
        except ValueError as error:
            raise InputError("command line", f"cannot be split into words: {error}") from None
    words = [str(word) for word in words]
    if words and words[0].rsplit("/", 1)[-1].lower().startswith("nanobragg"):
        words = words[1:]
    return words


def parse(words) -> list[Given]:
    """Parse nanoBragg's flags.

    Raises
    ------
    InputError
        For an unknown flag, a missing or malformed value, or a stray word.
    """
    words = split_words(words)
    found: list[Given] = []
    at = 0
    while at < len(words):
        word = words[at]
        flag, name = _find(word)
        at += 1
        if flag.key == "cell":
            values, used = _take_cell(name, words[at:])
        elif flag.key == "misset":
            values, used = _take_misset(name, words[at:])
        elif flag.key == "anomalous":
            values, used = _take_anomalous(name, words[at:])
        else:
            values, used = _take(name, flag, words[at:])
        found.append(Given(flag, name, values))
        at += used
    return found


def _find(word: str) -> tuple[Flag, str]:
    name = word
    if word.startswith("--") and word[1:] in BY_NAME:
        name = word[1:]
    if name in BY_NAME:
        return BY_NAME[name], name
    if name in REFUSED:
        raise InputError(name, "is not supported", hint=REFUSED[name])
    if not word.startswith("-") or _is_number(word):
        raise InputError("command line", "has a word that belongs to no flag", word)
    known = [*BY_NAME, *REFUSED]
    # nanoBragg's own comments shorten some: -hdiv, -dispstep.
    longer = [other for other in known if len(word) > 2 and other.startswith(word)]
    near = longer[:3] or difflib.get_close_matches(word, known, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else "--help lists them"
    raise InputError(word[:80], "is not a known flag", hint=hint)


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _is_flag(word: str) -> bool:
    return word.startswith("-") and not _is_number(word) and len(word) > 1


def _take(name: str, flag: Flag, rest: list[str]) -> tuple[tuple, int]:
    wanted = len(flag.values)
    given = []
    for word, (meaning, kind) in zip(rest, flag.values, strict=False):
        if _is_flag(word) and (kind not in ("file", "word") or word in BY_NAME):
            break
        given.append(_convert(name, word, meaning, kind))
    if len(given) < wanted:
        takes = " ".join(meaning for meaning, _ in flag.values)
        raise InputError(name, f"needs {wanted} value{'s' * (wanted > 1)} ({takes})", " ".join(rest[: len(given)]))
    return tuple(given), wanted


def _convert(name: str, word: str, meaning: str, kind: str):
    if kind == "file":
        if not word or "\0" in word:
            raise InputError(name, "needs a file name", word)
        return word
    if kind == "word":
        return word
    value = _number(name, word, meaning)
    if kind == "number":
        return value
    if value != int(value):
        raise InputError(name, f"needs a whole number ({meaning})", word)
    if abs(value) > 2**31 - 1:
        raise InputError(name, "needs a number below 2147483648", word)
    if kind == "count" and value < 0:
        raise InputError(name, f"must not be negative ({meaning})", word)
    return int(value)


def _number(name: str, word: str, meaning: str) -> float:
    try:
        # Python would accept 1_000; a command line in C's tradition does not.
        value = float(word) if "_" not in word else math.nan
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise InputError(name, f"needs a finite number ({meaning})", word)
    return value


def _take_cell(name: str, rest: list[str]) -> tuple[tuple, int]:
    values = []
    for word in rest[:6]:
        if word.startswith("-"):
            break
        values.append(_number(name, word, "angstrom, then degrees"))
    if not values:
        raise InputError(name, "needs 1 to 6 values: a [b c alpha beta gamma]", " ".join(rest[:1]))
    return tuple(values), len(values)


def _take_misset(name: str, rest: list[str]) -> tuple[tuple, int]:
    if rest and rest[0].lower().startswith("rand"):
        return ("random",), 1
    values = []
    for word in rest[:3]:
        if _is_flag(word):
            break
        values.append(_number(name, word, "degrees"))
    if len(values) < 3:
        raise InputError(name, "needs 3 angles in degrees, or the word random", " ".join(rest[:3]))
    return tuple(values), 3


def _take_anomalous(name: str, rest: list[str]) -> tuple[tuple, int]:
    """The word auto; or an element with the word auto, a file's name, or f' and f''."""
    words: list[str] = []
    for word in rest[:3]:
        if _is_flag(word):
            break
        words.append(word)
    if words and words[0].lower() == "auto":
        return ("auto",), 1
    if len(words) < 2 or "\0" in words[1]:
        raise InputError(name, "needs the word auto, or an element and auto, a file, or f' and f''", " ".join(words))
    if not _is_number(words[1]):
        return (words[0], "auto" if words[1].lower() == "auto" else words[1]), 2
    if len(words) < 3:
        raise InputError(name, "needs f'' after f' (electrons)", " ".join(words))
    return (words[0], _number(name, words[1], "f'"), _number(name, words[2], "f''")), 3
