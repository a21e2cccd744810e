"""Simulated data through DIALS and back: what it finds is held against what went in.

A sweep and stills of 2ERL are written, imported, searched, indexed, refined, integrated and merged by DIALS; cell,
orientation, places and intensities are compared with the truth that lies in the files. docs/roundtrip.md shows the
figures.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
CELL = (53.91, 23.1, 23.1, 90.0, 110.4, 90.0)
#: Shells of resolution, angstrom: limits of six.
SHELLS = (np.inf, 3.0, 2.4, 2.1, 1.9, 1.7, 1.5)
KNOWN = (f"unit_cell={','.join(map(str, CELL))}", "space_group=C2")
#: Sums over the pixels of a spot, with a flat background beneath: what the truth is a sum of.
SUMMATION = ("background.algorithm=simple", "profile.fitting=False", f"prediction.d_min={SHELLS[-1]}")
BEGIN, END = "<!-- begin: figures of scripts/roundtrip -->", "<!-- end: figures of scripts/roundtrip -->"
PAGE = ROOT / "docs" / "roundtrip.md"
PICTURE = ROOT / "docs" / "images" / "roundtrip.png"


# --- what is simulated ----------------------------------------------------------------------------


def experiment(**crystal):
    """Return a gauss crystal of 2ERL, as wide as long, in a drop of water on a detector that reaches 1.5 angstrom."""
    from bragg_numba import Beam, Crystal, Detector, Experiment, Sampling, StructureFactors
    from bragg_numba.io.structure_factor_files import read_hkl

    indices, amplitudes = read_hkl(ROOT / "examples" / "2erl_P1.hkl")
    return Experiment(
        beam=Beam(wavelength_A=1.0, fluence_per_m2=1e26),
        crystal=Crystal(
            cell=CELL, misset_deg=(12, -23, 41), cell_counts=(30, 70, 70), shape="gauss", water_um=0.04, **crystal
        ),
        detector=Detector(n_fast=1024, n_slow=1024, pixel_mm=0.1, distance_mm=70),
        sampling=Sampling(engine="spots", cutoff_photons=1e-3, pixel_average=True, interpolate=False),
        structure_factors=StructureFactors(indices=indices, amplitudes=amplitudes),
        fidelity="physical",
    )


def write_sweep(folder: Path, frames: int) -> None:
    """Write a sweep of half a degree a frame, as counts."""
    from bragg_numba import rotation_series

    series = rotation_series(experiment(), 0.0, 0.5, frames, phi_steps=20)
    series.write(folder / "s", photons=False, counts="uint16", seed=7, overwrite=True)


def write_stills(folder: Path, numbers: range, seed: int = 11) -> None:
    """Write stills of crystals in all orientations: those of these numbers in one series, whoever shares it out."""
    from bragg_numba import still_series

    mosaic = experiment(mosaic_spread_deg=0.15, mosaic_domains=100)
    orientations = still_series(mosaic, numbers.stop, seed=seed).frames["orientation"]
    still_series(mosaic, len(numbers), orientations=orientations[numbers.start :]).write(
        folder / "s", photons=False, counts="uint16", seed=7 + numbers.start, overwrite=True
    )


# --- DIALS ----------------------------------------------------------------------------------------


def dials_python() -> str | None:
    """Return the Python that DIALS is installed for; None where there is none."""
    for name in (shutil.which("dials.python"), shutil.which("python3", path="/usr/bin:/usr/local/bin")):
        if (
            name
            and subprocess.run([name, "-c", "import dials"], capture_output=True, env=_environment()).returncode == 0
        ):
            return name
    return None


def missing() -> str | None:
    """Return why the round trip cannot run here; None where it can."""
    programs = ["dials.import", "dials.index", "dials.integrate", "dials.scale", "dials.merge"]
    absent = [name for name in programs if shutil.which(name) is None]
    if absent:
        return f"DIALS is not on the PATH ({absent[0]} is missing; on Debian 12: apt-get install dials)"
    return None if dials_python() else "no Python imports DIALS's modules"


def _environment() -> dict[str, str]:
    import hdf5plugin

    environment = {**os.environ, "HDF5_PLUGIN_PATH": hdf5plugin.PLUGIN_PATH, "OMP_NUM_THREADS": "1"}
    for name in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV"):
        environment.pop(name, None)
    return environment


def _run(folder: Path, *words: str) -> str:
    done = subprocess.run(words, cwd=folder, env=_environment(), capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"error: {' '.join(words)} failed in {folder}:\n{(done.stdout + done.stderr)[-2000:]}")
    return done.stdout


def process_sweep(folder: Path) -> None:
    """From the master to merged intensities."""
    _run(folder, "dials.import", "s.phil", "s_master.h5")
    _run(folder, "dials.find_spots", "imported.expt", "nproc=2")
    _run(folder, "dials.index", "imported.expt", "strong.refl", *KNOWN)
    _run(folder, "dials.refine", "indexed.expt", "indexed.refl", "scan_varying=False")
    _run(folder, "dials.integrate", "refined.expt", "refined.refl", "nproc=2", *SUMMATION)
    _run(folder, "dials.scale", "refined.expt", "integrated.refl", f"d_min={SHELLS[-1]}", "output.html=None")
    words = ("truncate=False", "anomalous=False", "output.html=None")
    _run(folder, "dials.merge", "scaled.expt", "scaled.refl", *words)
    _dump(folder)


def process_stills(folder: Path) -> None:
    """From the master to integrated partial intensities, crystal by crystal."""
    _run(folder, "dials.import", "s.phil", "s_master.h5")
    _run(folder, "dials.find_spots", "imported.expt", "nproc=1")
    # Debian's DIALS lacks a part of its own indexer of stills; the other one takes them one by one.
    ways = ("joint_indexing=False", "stills.indexer=sequences", "max_lattices=1", "auto_reduction.action=fix")
    fixed = ("beam.fix=all", "detector.fix=all", "method=fft1d")
    _run(folder, "dials.index", "imported.expt", "strong.refl", *KNOWN, *ways, *fixed)
    # That one leaves the crystals without the mosaicity by which spots of stills are predicted.
    experiments = json.loads((folder / "indexed.expt").read_text())
    for crystal in experiments["crystal"]:
        crystal |= {"ML_half_mosaicity_deg": 0.3, "ML_domain_size_ang": 800.0}
    (folder / "refined.expt").write_text(json.dumps(experiments))
    profile = ("sigma_b=0.055", "sigma_m=0.2", "n_sigma=4")
    words = [f"gaussian_rs.parameters.{word}" for word in profile]
    words += ["gaussian_rs.min_spots.overall=0", "gaussian_rs.min_spots.per_degree=0"]
    _run(folder, "dials.integrate", "refined.expt", "indexed.refl", "nproc=1", *SUMMATION, *words)
    _dump(folder)


def _dump(folder: Path) -> None:
    script = Path(__file__).with_name("reflections.py")
    _run(folder, dials_python(), str(script), "indexed.refl", "integrated.refl")


# --- against the truth ------------------------------------------------------------------------------


def _reciprocal(crystal: dict) -> np.ndarray:
    """a*, b*, c* in columns, 1/angstrom, in DIALS's frame."""
    return np.linalg.inv([crystal["real_space_a"], crystal["real_space_b"], crystal["real_space_c"]])


def crystals(folder: Path) -> list[dict]:
    """Compare each crystal that was found with the true one.

    ``to_truth`` takes its indices to those of the simulation; ``turned_deg`` and ``stretched`` are the rotation and the
    largest relative change of a length between the two lattices.
    """
    found, true = (json.loads((folder / name).read_text()) for name in ("refined.expt", "s.expt"))
    compared = []
    for entry in found["experiment"]:
        images = found["imageset"][entry["imageset"]].get("single_file_indices") or [0]
        frame = images[0] if len(true["crystal"]) > 1 else 0
        ours, theirs = (
            _reciprocal(crystal) for crystal in (true["crystal"][frame], found["crystal"][entry["crystal"]])
        )
        to_truth = np.rint(np.linalg.inv(ours) @ theirs)
        change = (
            theirs @ np.linalg.inv(ours @ to_truth) if abs(np.linalg.det(to_truth)) == 1 else np.full((3, 3), np.nan)
        )
        row = {"frame": frame, "to_truth": to_truth, "turned_deg": np.nan, "stretched": np.nan}
        if np.isfinite(change).all():
            left, sizes, right = np.linalg.svd(change)
            cosine = (np.trace(left @ right) - 1.0) / 2.0
            row |= {"turned_deg": np.degrees(np.arccos(min(1.0, cosine))), "stretched": np.abs(sizes - 1.0).max()}
        compared.append(row)
    return compared


def _truth(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """The spots of a series and the frame of each."""
    import h5py

    with h5py.File(folder / "s_master.h5") as file:
        truth = file["/entry/truth"]
        per_frame = truth["frames"]["spots"]
        spots = np.concatenate([truth[name][()] for name in sorted(truth) if name.startswith("spots")])
    return spots, np.repeat(np.arange(len(per_frame)), per_frame)


def match(folder: Path, table: str, reach: float) -> dict[str, np.ndarray]:
    """Lay each reflection of a table beside the photons of the truth: those of its indices, within ``reach`` frames.

    Returns
    -------
    dict
        Columns of the table, and of the truth ``photons`` and ``slow``, ``fast`` (centroid, pixels); NaN where there is
        no such spot.
    """
    compared, reflections = crystals(folder), dict(np.load(folder / f"{table}.npz"))
    spots, frames = _truth(folder)
    rows: dict[tuple[int, ...], list[int]] = {}
    for number, hkl in enumerate(np.stack([spots["h"], spots["k"], spots["l"]], axis=1).tolist()):
        rows.setdefault(tuple(hkl), []).append(number)
    n = len(reflections["hkl"])
    reflections |= {name: np.full(n, np.nan) for name in ("photons", "slow", "fast")}
    reflections["true_hkl"] = np.zeros((n, 3), dtype=int)
    for i in range(n):
        crystal = compared[reflections["experiment"][i]] if reflections["experiment"][i] >= 0 else None
        if crystal is None:
            continue
        hkl = (crystal["to_truth"] @ reflections["hkl"][i]).astype(int)
        reflections["true_hkl"][i] = hkl
        middle = reflections["place"][i][2] if reach else crystal["frame"] + 0.5
        own = [row for row in rows.get(tuple(hkl.tolist()), ()) if abs(frames[row] + 0.5 - middle) <= reach]
        if own:
            photons = spots["photons"][own]
            reflections["photons"][i] = photons.sum()
            for name in ("slow", "fast"):
                reflections[name][i] = photons @ spots[name][own] / photons.sum()
    return reflections


def shells(found: np.ndarray, expected: np.ndarray, d: np.ndarray, variance: np.ndarray | None = None) -> list[dict]:
    """Sums and correlation in each shell, and over all: ratio of the sums, its error from counting, R and CC."""
    rows = []
    for high, low in [*zip(SHELLS[:-1], SHELLS[1:], strict=True), (SHELLS[0], SHELLS[-1])]:
        inside = (d <= high) & (d > low)
        ours, true = found[inside], expected[inside]
        if len(ours) < 3:
            continue
        rows.append(
            {
                "shell": f"{high:.1f} – {low:.1f}".replace("inf", "∞"),
                "n": int(inside.sum()),
                "ratio": ours.sum() / true.sum(),
                "error": np.sqrt(variance[inside].sum()) / true.sum() if variance is not None else np.nan,
                "R": np.abs(ours - true).sum() / true.sum(),
                "CC": np.corrcoef(ours, true)[0, 1],
            }
        )
    return rows


def _offsets(places: np.ndarray, true: dict[str, np.ndarray]) -> dict[str, float]:
    off = np.stack([places[:, 0] - true["fast"], places[:, 1] - true["slow"]], axis=1)
    size = np.hypot(*off[np.isfinite(off).all(axis=1)].T)
    return {"median": float(np.median(size)), "rms": float(np.sqrt((size**2).mean()))}


def judge(folders: list[Path], reach: float) -> dict:
    """Figures of a sweep, or of stills that were shared out among folders."""
    found = [match(folder, "indexed", reach) for folder in folders]
    known = [match(folder, "integrated", reach) for folder in folders]
    compared = [crystal for folder in folders for crystal in crystals(folder)]
    strong = {key: np.concatenate([one[key] for one in found]) for key in found[0]}
    whole = {key: np.concatenate([one[key] for one in known]) for key in known[0]}
    good = whole["integrated"] & np.isfinite(whole["photons"])
    # Of a sweep those that its ends do not cut.
    good &= whole["part"] > 0.999 if reach else True
    inside = whole["integrated"] & (whole["part"] > 0.999 if reach else True)
    true = {name: whole[name][good] for name in ("fast", "slow")}
    indexed = strong["indexed"].astype(bool)
    return {
        "crystals": len(compared),
        "spots": len(indexed),
        "indexed": float(indexed.mean()),
        "turned_deg": float(np.nanmedian([one["turned_deg"] for one in compared])),
        "stretched": float(np.nanmedian([one["stretched"] for one in compared])),
        "found": _offsets(strong["found"][indexed], {name: strong[name][indexed] for name in ("fast", "slow")}),
        "predicted": _offsets(whole["place"][good], true),
        "known": float(np.isfinite(whole["photons"][inside]).mean()),
        "intensities": shells(whole["I"][good], whole["photons"][good], whole["d"][good], whole["variance"][good]),
        "_whole": whole | {"good": good},
    }


def judge_merged(folder: Path) -> list[dict]:
    """Merged intensities against F^2, on a common scale."""
    import gemmi

    from bragg_numba.io.structure_factor_files import read_hkl

    mtz = gemmi.read_mtz_file(str(folder / "merged.mtz"))
    columns = {column.label: np.array(column) for column in mtz.columns}
    (crystal,) = crystals(folder)
    hkl = np.stack([columns[name] for name in "HKL"], axis=1) @ crystal["to_truth"].T
    indices, amplitudes = read_hkl(ROOT / "examples" / "2erl_P1.hkl")
    truth = dict(zip(map(tuple, indices.tolist()), (amplitudes**2).tolist(), strict=True))
    square = np.array([truth.get(tuple(row), np.nan) for row in np.rint(hkl).astype(int).tolist()])
    merged = columns["IMEAN"].astype(float)
    good = np.isfinite(merged) & np.isfinite(square)
    scale = square[good].sum() / merged[good].sum()
    return shells(scale * merged[good], square[good], mtz.make_d_array()[good])


# --- what is said of it -----------------------------------------------------------------------------


def tables(figures: dict) -> str:
    """Return the figures as Markdown."""
    names = [name for name in ("sweep", "stills") if name in figures]
    lines = [f"| | {' | '.join(figures[name]['title'] for name in names)} |", f"|---|{'---|' * len(names)}"]
    rows = (
        ("crystals indexed", lambda one: f"{one['crystals']} of {one['simulated']}"),
        ("strong spots indexed", lambda one: f"{100 * one['indexed']:.1f} % of {one['spots']}"),
        ("reflections integrated that the truth knows", lambda one: f"{100 * one['known']:.2f} %"),
        ("cell, largest relative error", lambda one: f"{one['stretched']:.1e}"),
        ("orientation", lambda one: f"{one['turned_deg']:.4f}°"),
        ("spots as found, pixels: median (rms)", lambda one: "{median:.3f} ({rms:.3f})".format(**one["found"])),
        ("spots as predicted, pixels: median (rms)", lambda one: "{median:.3f} ({rms:.3f})".format(**one["predicted"])),
    )
    lines += [f"| {text} | {' | '.join(say(figures[name]) for name in names)} |" for text, say in rows]
    for name in names:
        lines += ["", f"**{figures[name]['title']}**: integrated I over expected photons, shell by shell.", ""]
        lines += _shell_table(figures[name]["intensities"])
    if "merged" in figures:
        lines += ["", "**Sweep, merged**: I against F², one scale for all.", "", *_shell_table(figures["merged"])]
    return "\n".join(lines)


def _shell_table(rows: list[dict]) -> list[str]:
    lines = ["| d, Å | reflections | ΣI / Σ truth | from counting | R | CC |", "|---|---|---|---|---|---|"]
    for row in rows:
        error = "" if np.isnan(row["error"]) else f"± {row['error']:.4f}"
        lines.append(
            f"| {row['shell']} | {row['n']} | {row['ratio']:.4f} | {error} | {100 * row['R']:.2f} % | {row['CC']:.5f} |"
        )
    return lines


def draw(figures: dict, path: Path) -> None:
    """Draw I against the truth, and the ratio shell by shell."""
    try:
        import matplotlib
    except ImportError:
        print("no picture: matplotlib is not installed (pip install matplotlib)", file=sys.stderr)
        return
    matplotlib.use("agg")
    from matplotlib import pyplot as plt

    names = [name for name in ("sweep", "stills") if name in figures]
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4.2), layout="constrained")
    for name, colour in zip(names, ("tab:blue", "tab:orange"), strict=False):
        whole = figures[name]["_whole"]
        good = whole["good"]
        left.loglog(whole["photons"][good], whole["I"][good].clip(1), ".", ms=2, color=colour, label=name)
        rows = figures[name]["intensities"][:-1]
        places = np.arange(len(rows)) + (0.1 if name == "stills" else -0.1)
        right.errorbar(
            places, [row["ratio"] for row in rows], [row["error"] for row in rows], fmt="o", color=colour, label=name
        )
        right.set_xticks(np.arange(len(rows)), [row["shell"] for row in rows])
    left.set(xlabel="expected photons of a spot", ylabel="I as DIALS integrates it")
    right.axhspan(0.99, 1.01, color="0.92", zorder=0)
    right.set(xlabel="shell, Å", ylabel="ΣI / Σ truth", ylim=(0.97, 1.03))
    for axes in (left, right):
        axes.legend(loc="upper left")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def run(folder: Path, frames: int, stills: int) -> dict:
    """Simulate, process and compare; returns the figures."""
    figures: dict = {}
    if frames:
        sweep = folder / "sweep"
        sweep.mkdir(parents=True, exist_ok=True)
        print(f"simulating and processing a sweep of {frames} frames", flush=True)
        write_sweep(sweep, frames)
        process_sweep(sweep)
        title = {"title": f"Sweep, {frames} frames of 0.5°", "simulated": 1}
        figures["sweep"] = judge([sweep], reach=12.0) | title
        figures["merged"] = judge_merged(sweep)
    if stills:
        share = -(-stills // min(2, stills))
        parts = [range(start, min(start + share, stills)) for start in range(0, stills, share)]
        folders = [folder / f"stills_{part.start}" for part in parts]
        print(f"simulating and processing {stills} stills", flush=True)
        for one, part in zip(folders, parts, strict=True):
            one.mkdir(parents=True, exist_ok=True)
            write_stills(one, part)
        with ThreadPoolExecutor() as pool:
            list(pool.map(process_stills, folders))
        figures["stills"] = judge(folders, reach=0.0) | {"title": f"{stills} stills", "simulated": stills}
    return figures


def main() -> int:
    """Run it, print the tables."""
    parser = argparse.ArgumentParser(prog="scripts/roundtrip", description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="40 frames and 4 stills")
    parser.add_argument("--frames", type=int, metavar="N", help="of the sweep, half a degree each; 0: no sweep")
    parser.add_argument("--stills", type=int, metavar="N", help="crystals; 0: no stills")
    parser.add_argument(
        "--out", type=Path, default=Path("roundtrip"), metavar="FOLDER", help="where files go (roundtrip)"
    )
    parser.add_argument("--docs", action="store_true", help="put tables and picture into docs/")
    arguments = parser.parse_args()
    reason = missing()
    if reason:
        print(f"error: {reason}", file=sys.stderr)
        return 2
    frames, stills = (40, 4) if arguments.quick else (180, 100)
    frames = frames if arguments.frames is None else arguments.frames
    stills = stills if arguments.stills is None else arguments.stills
    if min(frames, stills) < 0 or frames == stills == 0:
        print("error: --frames and --stills must not be negative, and not both 0", file=sys.stderr)
        return 2
    figures = run(arguments.out, frames, stills)
    text = tables(figures)
    print(text)
    kept = {
        name: one if isinstance(one, list) else {k: v for k, v in one.items() if k != "_whole"}
        for name, one in figures.items()
    }
    (arguments.out / "figures.json").write_text(json.dumps(kept, indent=1))
    draw(figures, PICTURE if arguments.docs else arguments.out / "roundtrip.png")
    if arguments.docs:
        page = PAGE.read_text(encoding="utf-8")
        before, after = page.split(BEGIN)[0], page.split(END)[1]
        PAGE.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
