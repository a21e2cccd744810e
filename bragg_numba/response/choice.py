"""How a plan or a command line names a response: a preset, a preset with changes, or all fields."""

from __future__ import annotations

from bragg_numba.errors import InputError
from bragg_numba.response.presets import check_preset
from bragg_numba.response.response import Response


def plain_response(name: str, value) -> str | dict:
    """Return a response as JSON has it: the name of a preset, or fields, with ``preset`` where they change one.

    Raises
    ------
    InputError
        Under ``name``, if it is neither, or one of its fields is wrong.
    """
    if isinstance(value, Response):
        return value.to_dict()
    if isinstance(value, str):
        return check_preset(name, value)
    if not isinstance(value, dict):
        raise InputError(name, "must be the name of a preset or a JSON object of fields", value)
    chosen = resolve(value)
    if "preset" in value:
        return {**{key: item for key, item in chosen.to_dict().items() if key in value}, "preset": value["preset"]}
    return chosen.to_dict()


def resolve(value: str | dict, *, photon_keV: float = 12.4, absorbed: bool = False) -> Response:
    """Return the response that ``plain_response`` wrote down, for photons of an energy.

    Parameters
    ----------
    absorbed
        Whether the photons are those that a sensor absorbed already: then a preset's efficiency is 1.
    """
    changes = {"preset": value} if isinstance(value, str) else dict(value)
    if "preset" not in changes:
        return Response.from_dict(changes)
    name = check_preset("Response.preset", changes.pop("preset"))
    fields = Response.preset(name, photon_keV=photon_keV).to_dict()
    if absorbed:
        fields["quantum_efficiency"] = 1.0
    return Response.from_dict({**fields, **changes})
