"""The day of a GPU: what docs/gpu.md says of devices, run on one.

The machine is described, the GPU's cases are timed beside the model's floors, every kernel is held against the CPU's
float64 frames, arrays of other libraries are filled, every kind of detector sees a frame, and the tests of tests/ that
know a device are run there. After each part DEVICE.json and DEVICE.md are written anew, so that what ends early leaves
what it saw.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import time
import traceback
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("numba", "numba-cuda", "llvmlite", "numpy", "cupy-cuda13x", "cupy-cuda12x", "torch", "jax", "h5py")
TABLE = f"-hkl {ROOT / 'examples' / '2erl_P1.hkl'} -cell 53.91 23.1 23.1 90 110.4 90 -misset 12 -23 41"
CELL = "-cell 60 45 38 95 85 100 -misset 12 -23 41 -default_F 100"
ONE_SAMPLE = " -oversample 1"
BEAM = f"-lambda 1.1 -distance 100 -fluence 1e28{ONE_SAMPLE}"

#: Command lines without their frame, by the kernel that they ask for.
PIXELS = {
    "square, table": f"{TABLE} -N 12 -mosaic 1 -mosaic_dom 5",
    "round, table": f"{TABLE} -N 12 -round_xtal -mosaic 1 -mosaic_dom 5",
    "gauss, table": f"{TABLE} -N 12 -gauss_xtal -mosaic 1 -mosaic_dom 5",
    "tophat, table": f"{TABLE} -N 12 -tophat_spots -fudge 0.1 -mosaic 1 -mosaic_dom 5",
    "square, one F": f"{CELL} -Na 7 -Nb 9 -Nc 12 -mosaic 1 -mosaic_dom 5",
    "gauss, one F": f"{CELL} -N 12 -gauss_xtal -mosaic 1 -mosaic_dom 5",
    "weights": f"{TABLE} -N 12 -fidelity physical -polar 0.9 -detector_thick 300 -detector_abs 500 -dispersion 1 "
    "-dispsteps 3",
    "dmin": f"{TABLE} -N 12 -dmin 3",
    "sub-pixels": f"{TABLE} -N 12 -oversample 3",
    "curved": f"{TABLE} -N 12 -curved_det",
    "interpolated": f"{TABLE} -N 12 -interpolate",
    "water": f"{TABLE} -N 12 -water 0.05 -phisteps 3 -osc 1",
}
#: What slopes are taken in: 18 parameters.
SLOPES = "crystal.turn_deg, crystal.cell, counts, mosaic, wavelength, distance, centre, detector.rotation_deg"
SPOTS = ("square, table", "round, table", "gauss, table", "tophat, table", "weights", "water")


class Day:
    """What was seen so far, and where it is kept."""

    def __init__(self, out: Path, limit: float, rehearsal: bool):
        self.out, self.rehearsal = out, rehearsal
        self.ends = time.monotonic() + limit
        self.seen: dict = {"rehearsal": rehearsal}
        out.mkdir(parents=True, exist_ok=True)

    @property
    def left(self) -> float:
        """Seconds until the limit."""
        return self.ends - time.monotonic()

    def part(self, name: str, job) -> None:
        """Do a part, if there is time, and write down what it found or what stopped it."""
        begun = time.monotonic()
        try:
            found = job(self) if self.left > 0 else {"error": "no time was left"}
        except Exception:  # what fails is what the day is for
            found = {"error": traceback.format_exc(limit=-3)}
        self.seen[name] = found
        self.seen.setdefault("seconds", {})[name] = round(time.monotonic() - begun, 1)
        (self.out / "DEVICE.json").write_text(json.dumps(self.seen, indent=1) + "\n")
        (self.out / "DEVICE.md").write_text("\n".join(report(self.seen)) + "\n")
        print("\n".join(lines_of(name, found)), flush=True)


def median_seconds(job, repeats: int) -> float:
    """Return the median of what some calls take by the clock."""
    taken = []
    for _ in range(repeats):
        begun = time.perf_counter()
        job()
        taken.append(time.perf_counter() - begun)
    return sorted(taken)[repeats // 2]


# --- parts ------------------------------------------------------------------------------------------


def machine(day: Day) -> dict:
    """Name the card, the driver and the packages."""
    from bragg_numba.render import devices

    device = devices.require_device(0)
    found = {"device": str(device), "python": platform.python_version(), "cores": os.cpu_count()}
    if not day.rehearsal:
        found["driver_speaks_cuda"] = ".".join(map(str, devices.list_devices()[1]))
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = None
    return found


def timings(day: Day) -> dict:
    """Time the GPU's cases, and put the floor of the model beside the one that it is about."""
    sys.path.insert(0, str(ROOT / "bench"))
    import gpu_cases

    if day.rehearsal:
        return {"cases": [], "floor": "not in a rehearsal"}
    rows = []
    for name in gpu_cases.GPU_CASES:
        if day.left > 0:
            try:
                rows.append(gpu_cases.measure(name))
            except Exception:
                rows.append({"name": name, "title": name, "error": traceback.format_exc(limit=-3)})
            print(json.dumps(rows[-1]), flush=True)
    return {"cases": rows, "full_path_seconds_a_frame": gpu_cases.full_path_seconds(), "floor": floor_of_benchmark()}


def floor_of_benchmark() -> dict | str:
    """Return the least that this card needs for 4096^2 pixels and 1000 steps, beside what it took."""
    from bragg_numba import Experiment, InputError, Simulator
    from bragg_numba.lab.machine_code import cuda_model
    from bragg_numba.render import devices

    name = devices.require_device(0).name
    card = next((card for card in cuda_model.CARDS if card.name.split()[0] in name), None)
    if card is None:
        return f"the model knows no {name}"
    line = f"{TABLE} -N 20 {BEAM} -detpixels 4096 -pixel 0.05 -mosaic 0.5 -mosaic_dom 1000"
    simulator = Simulator(Experiment.from_nanobragg(line), backend="cuda", precision="tile")
    frame = simulator._renderer.new_frame()
    simulator.render(frame)
    taken = median_seconds(lambda: simulator.render(frame), 3)
    found = {"card": card.name, "seconds": taken, "pixel_steps": simulator.plan.pixel_steps}
    try:
        work = cuda_model.square_work(4096 * 4096, 1000, card.arch)
    except InputError as error:
        return {**found, "floor": str(error)}
    row = cuda_model.model(work, (card,))[0]
    return {**found, "floor": row["seconds"], "limit": row["limit"], "over_floor": found["seconds"] / row["seconds"]}


def comparison(day: Day) -> list[dict]:
    """Hold every kind of kernel against the CPU's float64 frame; an error of 1 is what is allowed."""
    import numpy as np

    from bragg_numba import Experiment, Simulator
    from bragg_numba.tolerances import allowed

    frame = "-detpixels_x 24 -detpixels_y 18 -pixel 0.4" if day.rehearsal else "-detpixels_x 1000 -detpixels_y 997"
    rows = []
    for name, words in PIXELS.items():
        if day.left < 0:
            break
        beam = BEAM.removesuffix(ONE_SAMPLE) if "-oversample" in words else BEAM
        experiment = Experiment.from_nanobragg(f"{words} {beam} {frame}")
        expected = Simulator(experiment, backend="cpu", precision="float64").render().astype(float)
        ways = (
            [("pixels", "tile"), ("pixels", "float64")]
            if name not in ("curved", "interpolated")
            else [("pixels", "float64")]
        )
        ways += [("spots", "auto")] if name in SPOTS else []
        for engine, precision in ways:
            row: dict = {"kernel": name, "engine": engine, "precision": precision, "brightest": expected.max()}
            try:
                asked = experiment.replace(sampling=experiment.sampling.replace(engine=engine))
                image = Simulator(asked, backend="cuda", precision=precision).render().astype(float)
                row["error"] = float(
                    (np.abs(image - expected) / np.maximum(allowed(expected, expected.max()), 1e-300)).max()
                )
                row["different"] = int((image != expected).sum())
            except Exception:
                row["failed"] = traceback.format_exc(limit=-3)
            rows.append(row)
    return rows


def slopes(day: Day) -> list[dict]:
    """Hold slopes against the CPU's in float64, and time them beside a frame; an error of 1 is what is allowed."""
    import numpy as np

    from bragg_numba import Experiment, Simulator

    small, large = "-detpixels 150 -pixel 0.8", "-detpixels 2048 -pixel 0.1"
    if day.rehearsal:  # of so few cells that a spot of a gauss crystal is seen
        small = large = "-detpixels_x 7 -detpixels_y 5 -pixel 3 -N 2"
    rows = []
    for name in ("square, one F", "square, table", "gauss, one F"):
        experiment = Experiment.from_nanobragg(f"{PIXELS[name]} {BEAM} {small}")
        expected = Simulator(experiment, backend="cpu").slopes(SLOPES, precision="float64").images()
        for precision in ("tile", "float64"):
            row: dict = {"kernel": name, "precision": precision}
            rows.append(row)
            try:
                found = Simulator(experiment, backend="cuda").slopes(SLOPES, precision=precision).images()
                largest = np.abs(expected).max(axis=(1, 2), keepdims=True)
                bound = 1e-5 * np.abs(expected) + 1e-6 * largest if precision == "tile" else 1e-10 * largest
                row["error"] = float((np.abs(found - expected) / bound).max())
                simulator = Simulator(Experiment.from_nanobragg(f"{PIXELS[name]} {BEAM} {large}"), backend="cuda")
                on_device, weights = simulator.slopes(SLOPES, precision=precision), np.ones(simulator.shape)
                jobs = {"frame": simulator.render, "image": on_device.image, "images": on_device.images}
                jobs |= {"pull": partial(on_device.pull, weights), "normal": partial(on_device.normal, weights)}
                for job, call in jobs.items():
                    row[f"seconds_{job}"] = median_seconds(call, 1 if day.rehearsal else 3)
            except Exception:
                row["failed"] = traceback.format_exc(limit=-3)
    return rows


def arrays(day: Day) -> dict:
    """Fill arrays of other libraries where they lie."""
    import numpy as np

    from bragg_numba import Experiment, Simulator, poisson

    side = 16 if day.rehearsal else 256
    simulator = Simulator(Experiment.from_nanobragg(f"{CELL} -N 7 {BEAM} -detpixels {side} -pixel 0.4"), backend="cuda")
    host = simulator.render()

    def through_cupy():
        frame = simulator.render(device_array=True)
        counts = poisson(frame, seed=1)
        import cupy

        assert isinstance(frame, cupy.ndarray), type(frame)
        expected = poisson(host, seed=1)
        return {
            "same": bool((cupy.asnumpy(frame) == host).all()),
            "counts_off": int((cupy.asnumpy(counts) != expected).sum()),
        }

    def through_torch():
        import torch

        if not torch.cuda.is_available():
            raise ModuleNotFoundError("this PyTorch has no CUDA")
        frame = torch.full((side, side), 7.0, device="cuda")
        back = simulator.render(frame)
        return {"same": bool((frame.cpu().numpy() == host).all()), "returned": back is frame}

    def through_jax():
        os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
        import jax

        frame = jax.dlpack.from_dlpack(simulator.render(device_array=True))
        return {"same": bool((np.asarray(frame) == host).all()), "where": str(frame.device)}

    found = {}
    for name, job in {"cupy": through_cupy, "torch": through_torch, "jax": through_jax}.items():
        try:
            found[name] = job()
        except ModuleNotFoundError as error:
            found[name] = {"missing": str(error)}
        except Exception:
            found[name] = {"failed": traceback.format_exc(limit=-3)}
    return found


def responses(day: Day) -> dict:
    """Let every kind of detector see a frame on the device, and hold its values and its time against the host's."""
    import numpy as np
    from numba import cuda

    from bragg_numba import Response
    from bragg_numba.response.presets import PRESETS

    side = 16 if day.rehearsal else 4096
    photons = np.random.default_rng(1).gamma(0.5, 2.0, (side, side)).astype(np.float32)
    frame, found = cuda.to_device(photons), {}
    for name in PRESETS:
        response = Response.preset(name)
        try:
            seen, expected = response.record(frame, 1), response.record(photons, 1)
            counts = seen.counts.get() if hasattr(seen.counts, "get") else seen.counts.copy_to_host()
            off = np.abs(counts.astype(np.int64) - expected.counts)
            found[name] = {
                "seconds_on_device": median_seconds(partial(response.record, frame, 1), 5),
                "seconds_on_host": median_seconds(partial(response.record, photons, 1), 1),
                "different": int((off > 0).sum()),
                "most_off": int(off.max()),
                "sums_agree": (seen.photons, seen.most) == (expected.photons, expected.most),
                "notes": seen.notes,
            }
        except Exception:
            found[name] = {"failed": traceback.format_exc(limit=-3)}
    return found


#: How the tests ended where time was up.
STOPPED = "stopped at the limit"


def tests(day: Day) -> dict:
    """Run the tests that know a device, several processes at a time, until the limit."""
    sys.path.insert(0, str(ROOT / "tests"))
    import simulated_gpu

    kind = "simulator" if day.rehearsal else "device"
    files = sorted(str(path.relative_to(ROOT)) for name in simulated_gpu.FILES for path in (ROOT / "tests").rglob(name))
    words = ["-k", "on_the_device or allowed or stay"] if day.rehearsal else []
    written = day.out / "outcomes"
    written.unlink(missing_ok=True)
    written.touch()
    environment = {**os.environ, **simulated_gpu.environment(kind, written.resolve())}
    workers = str(max(1, min(6, (os.cpu_count() or 1) // 2)))
    # -P: the package that is installed, whatever lies in the working folder.
    command = [sys.executable, "-P", "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    command += ["-n", workers, "--dist", "worksteal", "--benchmark-disable"]
    with open(day.out / "tests.log", "w") as log:
        try:
            ended = subprocess.run(
                [*command, *words, *files], cwd=ROOT, env=environment, stdout=log, stderr=log, timeout=max(day.left, 1)
            ).returncode
        except subprocess.TimeoutExpired:
            ended = STOPPED
    outcomes = simulated_gpu.read_outcomes(written)
    if ended == STOPPED:  # what was being run then says nothing
        outcomes = {name: found for name, found in outcomes.items() if found != simulated_gpu.UNKNOWN}
    counted = {kind: sum(outcome == kind for outcome, _ in outcomes.values()) for kind in simulated_gpu.ORDER}
    failures = {name: text[-1500:] for name, (outcome, text) in outcomes.items() if outcome == "failed"}
    return {"ended": ended, "counted": counted, "failures": failures}


PARTS = {
    "machine": machine,
    "timings": timings,
    "comparison": comparison,
    "slopes": slopes,
    "arrays": arrays,
    "responses": responses,
    "tests": tests,
}


# --- the report -------------------------------------------------------------------------------------


def lines_of(name: str, found) -> list[str]:
    """Return the lines of one part."""
    if isinstance(found, dict) and "error" in found:
        return [f"{name}: {found['error']}"]
    if name == "timings":
        import gpu_cases

        lines = [
            f"- {row['title']}: {row['error']}" if "error" in row else f"- {gpu_cases.line_of(row)}"
            for row in found["cases"]
        ]
        return [*lines, *(f"- {key}: {value}" for key, value in found.items() if key != "cases")]
    if name == "comparison":
        return [
            f"- {row['kernel']}, {row['engine']}, {row['precision']}: "
            + (row["failed"] if "failed" in row else f"{row['error']:.3f} of what is allowed")
            for row in found
        ]
    if name == "slopes":
        return [
            f"- {row['kernel']}, {row['precision']}: " + (row["failed"] if "failed" in row else of_slopes(row))
            for row in found
        ]
    if name == "tests":
        return [
            f"- {found['ended']}, {found['counted']}",
            *(f"- {case}\n```\n{text}\n```" for case, text in found["failures"].items()),
        ]
    return [f"- {key}: {value}" for key, value in found.items()]


def of_slopes(row: dict) -> str:
    """Return what the part of slopes found of a kernel."""
    took = (f"{key[8:]} {value * 1e3:.1f} ms" for key, value in row.items() if key.startswith("seconds_"))
    return f"{row['error']:.3f} of what is allowed; {', '.join(took)}"


def report(seen: dict) -> list[str]:
    """Return all that was seen, for people."""
    lines = ["# The day of a GPU" + (" (a rehearsal in numba's simulator)" if seen["rehearsal"] else "")]
    for name in PARTS:
        if name in seen:
            lines += ["", f"## {name}, {seen['seconds'].get(name, 0)} s", "", *lines_of(name, seen[name])]
    return lines


def main(argv: list[str] | None = None) -> int:
    """Do the parts; 1 if anything failed."""
    parser = argparse.ArgumentParser(prog="scripts/gpu", description=__doc__)
    parser.add_argument(
        "--out", type=Path, default=Path("gpu"), help="folder for DEVICE.json, DEVICE.md and the tests' log"
    )
    parser.add_argument(
        "--limit", type=float, default=600, metavar="SECONDS", help="begin nothing after it (default 600)"
    )
    parser.add_argument("--only", action="append", choices=PARTS, help="a part; may be given again (default all)")
    parser.add_argument("--rehearse", action="store_true", help="in numba's simulator, on tiny frames")
    options = parser.parse_args(argv)
    if options.rehearse:
        os.environ["NUMBA_ENABLE_CUDASIM"] = "1"
    day = Day(options.out, options.limit, options.rehearse)
    for name in options.only or PARTS:
        day.part(name, PARTS[name])
    return int(failed(day.seen))


def failed(seen: dict) -> bool:
    """Tell whether anything went wrong."""
    tested = seen.get("tests", {})
    return went_wrong([seen.get(name) for name in PARTS]) or tested.get("ended", 0) not in (0, STOPPED)


def went_wrong(found) -> bool:
    """Tell whether something that was found, or a part of it, does not hold: an error above 1, a sentence, a False."""
    if isinstance(found, dict):
        error = found.get("error", 0.0)
        off = isinstance(error, str) or not error <= 1.0  # NaN, too
        return (
            off or isinstance(found.get("failed"), str) or bool(found.get("failures")) or went_wrong([*found.values()])
        )
    if isinstance(found, (list, tuple)):
        return any(went_wrong(one) for one in found)
    return found is False


if __name__ == "__main__":
    sys.exit(main())
