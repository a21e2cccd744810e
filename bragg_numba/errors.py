"""The one way in which this package refuses an input."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["BraggError", "InputError", "read_from"]


class BraggError(Exception):
    """Something that a person can mend; commands print it as one sentence and return status 2."""


class InputError(BraggError, ValueError):
    """An input that cannot be honoured: its name, the rule, the value that broke it and a hint.

    Parameters
    ----------
    name
        What was given: a field (``Beam.wavelength_A``), a flag (``-lambda``) or a file.
    rule
        The rule as a verb phrase: ``must be greater than 0``.
    value
        The offending value, shown with ``repr``; leave it out where there is none to show.
    hint
        What to do instead, without brackets.
    file
        The file that it was read from; the sentence begins with its name.
    """

    _NO_VALUE = object()

    def __init__(self, name: str, rule: str, value: object = _NO_VALUE, hint: str = "", file: str = "") -> None:
        self.name, self.rule, self.value, self.hint, self.file = name, rule, value, hint, file
        text = f"{file}: {name} {rule}" if file else f"{name} {rule}"
        if value is not self._NO_VALUE:
            shown = repr(value)
            text += f", got {shown if len(shown) <= 80 else shown[:77] + '...'}"
        if hint:
            text += f" ({hint})"
        super().__init__(text)

    def in_file(self, path: str | os.PathLike[str]) -> InputError:
        """Return the same refusal, said of a file that holds what is refused, or names the file that does."""
        file = f"{os.fspath(path)}: {self.file}" if self.file else os.fspath(path)
        return InputError(self.name, self.rule, self.value, self.hint, file)

    def __reduce__(self):
        # Without the value, which may be anything: an exception that cannot be read back hangs a multiprocessing.Pool.
        state = {name: value for name, value in self.__dict__.items() if name != "value"}
        return _told, (type(self), str(self), state)


@contextmanager
def read_from(path: str | os.PathLike[str]) -> Iterator[None]:
    """Let whatever is refused inside the block begin with the name of the file it was read from."""
    try:
        yield
    except InputError as error:
        raise error.in_file(path) from None


def _told(kind: type[InputError], text: str, state: dict[str, object]) -> InputError:
    """An error of another process: as it was there, but for the value, which stands in its text alone."""
    error = kind.__new__(kind, text)
    error.__dict__.update(state, value=InputError._NO_VALUE)
    return error
