"""``bragg-numba info``: what a frame, the master of a series or an experiment holds."""

from __future__ import annotations

import argparse
import json
from typing import Any

from bragg_numba.cli.console import say_notes
from bragg_numba.experiment.faces import MOST_LETTERS

HELP = "Say what a frame, a series' master, an experiment, a .geom or an .expt holds; status 1 if data files are bad."

#: Exit status where data files of a master are missing or bad.
BAD_DATA = 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the sub-command's arguments."""
    parser.add_argument("file", help="frame.h5, X_master.h5, experiment.json, X.geom or X.expt")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(arguments: argparse.Namespace) -> int:
    """Print what the file holds."""
    report = describe(arguments.file)
    if arguments.json:
        print(json.dumps(report))
    else:
        for line in _lines(report):
            print(line)
    bad = report.get("bad_data_files", {})
    if bad:
        number = f"{len(bad)} of {len(report['data_files'])} data files are missing or bad"
        say_notes([f"{number}: other programs read {report['fill_value']} in their place, which is no count"])
    return BAD_DATA if bad else 0


def describe(path: str) -> dict:
    """Return what a file holds, as plain values by name.

    Raises
    ------
    InputError
        If the file cannot be read or is none of the kinds.
    """
    from bragg_numba.io.atomic import file_error

    try:
        with open(path, "rb") as file:
            is_hdf5 = file.read(8) == b"\x89HDF\r\n\x1a\n"
    except OSError as error:
        raise file_error(path, error, "read") from None
    if is_hdf5:
        return _describe_hdf5(path)
    if path.endswith(".geom"):
        return _describe_geom(path)
    if path.endswith(".expt"):
        return _describe_expt(path)
    from bragg_numba.experiment import Experiment

    return {"file": path, "kind": "experiment", "experiment": _describe_experiment(Experiment.load(path))}


def _describe_geom(path: str) -> dict:
    """What a CrystFEL geometry says, whatever has to be added to it."""
    from bragg_numba.io.geom_file import read_geom
    from bragg_numba.io.geometry import Quantity

    def shown(quantity: Quantity | None) -> str:
        if quantity is None:
            return "none"
        if quantity.path is not None:
            return f"{quantity.key} at {quantity.path} ({quantity.unit})"
        assert quantity.number is not None
        return f"{quantity.key} {quantity.number / quantity.factor:.9g} {quantity.unit}"

    g = read_geom(path)
    slab = g.slab()
    masks = {mask.file or "the file of the data" for panel in g.panels for mask in panel.masks}
    return {
        "file": path,
        "kind": "CrystFEL geometry",
        "panels": len(g.panels),
        "pixels_slow_fast": [slab.n_slow, slab.n_fast],
        "data": [block.data for block in slab.blocks][:1],
        "dimensions": list(map(str, g.panels[0].dims)),
        "camera_length": shown(g.panels[0].clen or g.clen),
        "wavelength": shown(g.wavelength),
        "bandwidth": g.bandwidth,
        "masks": sorted(masks),
        "bad_regions": len(g.bad_regions),
        "groups": [name for name, _ in g.groups],
        "not_understood": [f"line {line}: {key}" for line, key, _ in g.unknown],
    }


def _describe_expt(path: str) -> dict:
    """What an experiment list of DIALS holds: how much of it, and its first experiment."""
    from bragg_numba.experiment import Crystal, Experiment
    from bragg_numba.io.expt_file import read_expt

    listed = read_expt(path)
    report: dict[str, Any] = {"file": path, "kind": "DIALS experiments", "experiments": len(listed)}
    if listed and listed[0].beam is not None and listed[0].detector:
        crystal = None if listed[0].crystal is not None else Crystal(cell=(1.0,))
        first = _describe_experiment(Experiment.from_expt(path, crystal=crystal))
        kept = ("beam", "detector", "rotation") if crystal else ("beam", "crystal", "detector", "rotation")
        report["first"] = {name: first[name] for name in kept}
    return report


def _describe_hdf5(path: str) -> dict:
    from bragg_numba.errors import read_from
    from bragg_numba.io.frame_file import PROCESS, open_frame
    from bragg_numba.io.hdf5 import reading

    with open_frame(path) as file, reading(path):
        data = file["/entry/data/data"]
        report: dict[str, Any] = {
            "file": path,
            "kind": "frame" if data.ndim < 3 or data.shape[0] == 1 else "series",
            "frames": data.shape[0] if data.ndim == 3 else 1,
            "pixels_slow_fast": list(data.shape[-2:]),
            "dtype": str(data.dtype),
        }
        _describe_storage(path, file, report)
        if "/entry/truth/lattices" in file:
            found = file["/entry/truth/frames"]["lattices"]
            report["crystals"] = {"all": int(found.sum()), "frames_without": int((found == 0).sum())}
        if PROCESS in file:
            with read_from(path):
                _describe_process(file[PROCESS], report)
    return report


def _describe_process(process, report: dict) -> None:
    """Say what wrote the file, and of which experiment."""
    for name in ("program", "version", "date", "command", "versions", "noise"):
        if name in process:
            report[name] = _plain(process[name][()])
    if isinstance(report.get("versions"), str):
        report["versions"] = _parsed("the list of versions", report["versions"])
    for name in ("seeds", "rendering", "structure_factors", "statistics"):
        if name in process:
            report[name] = _collection(process[name])
    if isinstance(report.get("structure_factors"), str):  # of a series
        report["structure_factors"] = _parsed("the report of structure factors", report["structure_factors"])
    if "experiment" in process:
        from bragg_numba.experiment import Experiment

        report["experiment"] = _describe_experiment(Experiment.from_json(_plain(process["experiment"][()])))


def _collection(item) -> Any:
    """A dataset's value; of a group that, or nested ones, by name."""
    if hasattr(item, "items"):
        return {name: _collection(value) for name, value in item.items()}
    return _plain(item[()])


def _parsed(name: str, text: str) -> dict:
    from bragg_numba.errors import InputError

    try:
        return json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        raise InputError(name, f"is not JSON: {error}") from None


def _describe_storage(path: str, file, report: dict) -> None:
    """Say how the frames are packed, in which data files they lie, and what is wrong with these."""
    from contextlib import closing

    from bragg_numba.io.data_file import DATA
    from bragg_numba.io.frame_index import FrameIndex, frames_of

    data = file[DATA]
    with closing(frames_of(path, file, DATA)) as frames:
        problems = {problem.name: problem.rule for problem in frames.problems()}
        packed = None if problems else frames.beside(0, DATA)[1]
        report["compression"] = "unknown" if packed is None else _filters(packed)
        if isinstance(frames, FrameIndex):
            report["masters"] = frames.masters
        if frames.names:
            report["data_files"] = frames.names
            report["fill_value"] = str(data.fillvalue)
        if problems:
            report["bad_data_files"] = problems


def _plain(value):
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return value.tolist() if hasattr(value, "tolist") else value


def _filters(data) -> str:
    # The numbers under which the HDF Group registered the filters.
    names = {1: "gzip", 2: "shuffle", 32008: "bitshuffle", 32015: "zstd", 32004: "lz4"}
    created = data.id.get_create_plist()
    found = [created.get_filter(i)[0] for i in range(created.get_nfilters())]
    return ", ".join(names.get(number, f"filter {number}") for number in found) or "none"


def _describe_experiment(experiment) -> dict:
    """What was given of each part; what is left to its default is left out."""
    from bragg_numba.experiment.faces import given

    report = {"fidelity": experiment.fidelity}
    for part in ("beam", "crystal", "detector", "rotation", "sampling"):
        report[part] = {name: _short(value) for name, value in given(getattr(experiment, part))}
    if experiment.lattices is not None:
        report["lattices"] = {
            str(number): {"weight": one.weight, **{name: _short(value) for name, value in given(one.crystal)}}
            for number, one in enumerate(experiment.lattices)
        }
    report["detector"]["pixels_slow_fast"] = list(experiment.detector.shape)
    factors = experiment.structure_factors
    report["structure_factors"] = {
        "reflections": 0 if factors.indices is None else len(factors.indices),
        "default_F": factors.default_F,
    }
    if factors.anomalous is not None:
        report["structure_factors"]["anomalous"] = list(factors.anomalous.elements)
    if experiment.diffuse is not None:
        report["diffuse"] = {name: _short(value) for name, value in given(experiment.diffuse)}
    if experiment.damage is not None:
        report["damage"] = {name: _short(value) for name, value in given(experiment.damage)}
    if experiment.transmission:
        report["transmission"] = {
            f"{place} {noun.label}": {name: _short(value) for name, value in given(noun)}
            for place, noun in enumerate(experiment.transmission)
        }
    if experiment.backgrounds:
        # A label may come twice.
        report["backgrounds"] = {
            f"{place} {noun.label}": {name: _short(value) for name, value in given(noun)}
            for place, noun in enumerate(experiment.backgrounds)
        }
    return report


def _short(value):
    if isinstance(value, str) and len(value) > MOST_LETTERS:
        return f"text of {len(value.splitlines())} lines"
    if hasattr(value, "to_dict"):  # a noun within a noun
        from bragg_numba.experiment.faces import given

        return {name: _short(part) for name, part in given(value)}
    if hasattr(value, "shape"):
        return f"{value.dtype} {value.shape}"
    if isinstance(value, tuple) and value and hasattr(value[0], "to_dict"):
        return [part.name for part in value]
    return list(value) if isinstance(value, tuple) else value


def _lines(report: dict, indent: str = "") -> list[str]:
    width = max((len(key) for key in report), default=0)
    lines = []
    for key, value in report.items():
        if isinstance(value, dict):
            lines += [f"{indent}{key}:", *_lines(value, indent + "  ")]
        else:
            shown = " ".join(map(str, value)) if isinstance(value, list) else value
            lines.append(f"{indent}{key:<{width}}  {shown}")
    return lines
