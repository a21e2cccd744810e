"""The one kind of error."""

from __future__ import annotations

import pickle
import threading

from bragg_numba import InputError


def test_an_error_reaches_another_process_whatever_its_value():
    """One that cannot be read back ends the thread that reads it, and a multiprocessing.Pool waits for ever."""
    sent = InputError("Beam.wavelength_A", "must be greater than 0", threading.Lock(), hint="in angstrom")

    got = pickle.loads(pickle.dumps(sent))

    assert type(got) is InputError
    assert (str(got), got.name, got.rule, got.hint) == (str(sent), sent.name, sent.rule, sent.hint)
    assert str(pickle.loads(pickle.dumps(got))) == str(sent)
