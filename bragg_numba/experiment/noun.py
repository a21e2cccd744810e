"""What the nouns of an experiment have in common: dictionaries, JSON, equality, replacement, faces."""

from __future__ import annotations

import base64
import dataclasses
import difflib
import json
import zlib
from typing import Any, ClassVar, Self

import numpy as np

from bragg_numba.errors import InputError
from bragg_numba.experiment import faces


class Noun:
    """Base of the frozen dataclasses; subclasses validate themselves in ``__post_init__``.

    ``repr`` is the call that makes the noun: subclasses say ``repr=False``, or dataclasses would write their own.
    """

    __slots__ = ()
    __dataclass_fields__: ClassVar[dict[str, Any]]

    def _set(self, field: str, value) -> None:
        # The dataclasses are frozen: this is how validation stores the clean value.
        object.__setattr__(self, field, value)

    def replace(self, **changes) -> Self:
        """Return a copy with some fields changed; the copy is validated anew."""
        return dataclasses.replace(self, **changes)

    def to_dict(self) -> dict:
        """Return plain Python values that ``json`` can write; arrays become compressed text."""
        return {field.name: plain_value(getattr(self, field.name)) for field in dataclasses.fields(self)}

    @classmethod
    def from_dict(cls, values: dict) -> Self:
        """Build from what ``to_dict`` returned; an unknown field is an error that names the nearest."""
        if not isinstance(values, dict):
            raise InputError(cls.__name__, "must be a JSON object", values)
        known = [field.name for field in dataclasses.fields(cls)]
        for key in values:
            if key not in known:
                near = difflib.get_close_matches(str(key), known, n=1)
                hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(known)}"
                raise InputError(f"{cls.__name__}.{key}", "is not a known field", hint=hint)
        for field in dataclasses.fields(cls):
            needed = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
            if needed and field.init and field.name not in values:
                raise InputError(f"{cls.__name__}.{field.name}", "must be given")
        return cls(**{key: _from_plain(f"{cls.__name__}.{key}", value) for key, value in values.items()})

    def __eq__(self, other) -> bool:
        if type(self) is not type(other):
            return NotImplemented
        return json.dumps(self.to_dict()) == json.dumps(other.to_dict())

    def __hash__(self) -> int:
        return hash(json.dumps(self.to_dict()))

    def __repr__(self) -> str:
        return faces.call(self)

    def _repr_html_(self) -> str:
        return faces.html_table(type(self).__name__, [("", faces.given(self))])


def plain_value(value):
    """Return a field's value as plain Python that ``json`` can write; an array becomes compressed text."""
    if isinstance(value, Noun):
        return value.to_dict()
    if isinstance(value, np.ndarray):
        packed = np.packbits(value) if value.dtype == bool else value
        data = zlib.compress(np.ascontiguousarray(packed).tobytes(), 6)
        return {
            "dtype": value.dtype.str,
            "shape": list(value.shape),
            "zlib_base64": base64.b64encode(data).decode("ascii"),
        }
    if isinstance(value, tuple):
        return [plain_value(part) for part in value]
    return value


def _from_plain(name: str, value):
    if isinstance(value, dict) and "zlib_base64" in value:
        return unpack_array(name, value)
    if isinstance(value, list):
        return tuple(_from_plain(name, part) for part in value)
    return value


def unpack_array(name: str, packed: dict) -> np.ndarray:
    """Return the array that ``plain_value`` packed; raise InputError under ``name`` if it is damaged."""
    try:
        dtype = np.dtype(packed["dtype"])
        if dtype.kind not in "bifc":
            raise ValueError(f"dtype {dtype} is not a number")
        shape = tuple(int(n) for n in packed["shape"])
        size = int(np.prod(shape, dtype=np.int64))
        n_bytes = (size + 7) // 8 if dtype.kind == "b" else size * dtype.itemsize
        stream = zlib.decompressobj()
        # Bounded: a small text must not unpack to more than its own header promises.
        data = stream.decompress(base64.b64decode(packed["zlib_base64"], validate=True), n_bytes + 1)
        if len(data) != n_bytes or min(shape, default=0) < 0:
            raise ValueError(f"holds {len(data)} bytes where its shape asks for {n_bytes}")
        if dtype.kind == "b":
            return np.unpackbits(np.frombuffer(data, np.uint8), count=size).astype(bool).reshape(shape)
        return np.frombuffer(data, dtype).reshape(shape).copy()
    except (KeyError, TypeError, ValueError, zlib.error) as error:
        raise InputError(name, f"is not a readable packed array: {error}") from None
