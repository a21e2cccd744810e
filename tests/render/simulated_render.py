"""The CUDA backend from end to end in numba's simulator; tests/simulated_gpu.py runs its cases there.

The simulator runs a Python thread for each thread of a block: frames are tiny. What it shows is that the
right kernels get the right arguments and that every pixel arrives where it belongs; the arithmetic is the
CPU's, and what a GPU's compiler makes of it is not shown here.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

if importlib.util.find_spec("numba_cuda") is None:
    pytest.skip("needs numba-cuda", allow_module_level=True)

from sample_panels import crooked, lit

from bragg_numba import Experiment, InputError, Sampling, Simulator, Spectrum
from bragg_numba.plan.plan import make_plan
from bragg_numba.render import cuda, devices
from bragg_numba.tolerances import allowed

GPUS = ("simulator", "device")
pytestmark = pytest.mark.usefixtures("gpu")

ROOT = Path(__file__).resolve().parents[2]
CUBIC = "-cell 100 100 100 90 90 90 -default_F 100 -N 5 -lambda 1 -distance 100 -pixel 0.4 -oversample 1"
PROTEIN = (
    f"-hkl {ROOT / 'examples' / '2erl_P1.hkl'} -cell 53.91 23.1 23.1 90 110.4 90 -misset 12 -23 41 -lambda 1.1 -N 8 "
    "-distance 80 -pixel 0.8 -fluence 1e26 -oversample 1"
)


def pair(words: str, **options) -> tuple[Simulator, Simulator]:
    """The same experiment on the simulated GPU and on the CPU."""
    experiment = Experiment.from_nanobragg(words)
    return (
        Simulator(experiment, backend="cuda", **options),
        Simulator(experiment, backend="cpu", **options),
    )


def on_host(frame) -> np.ndarray:
    """A device array of CuPy's or numba's as numpy's."""
    return frame.get() if hasattr(frame, "get") else frame.copy_to_host()


def assert_agrees(image, expected) -> None:
    limit = allowed(expected, expected.max())
    assert (np.abs(image - expected) <= limit).all(), np.abs(image - expected).max() / expected.max()


@pytest.mark.parametrize("precision", ["tile", "float64"])
@pytest.mark.parametrize("words", [f"{CUBIC} -detpixels 20", f"{PROTEIN} -detpixels 20"], ids=["cubic", "protein"])
def test_a_frame_is_that_of_the_cpu(words, precision):
    gpu, cpu = pair(words, precision=precision)
    image, expected = gpu.render(), cpu.render()

    assert (gpu.backend, gpu.precision) == ("cuda", precision)
    assert expected.max() > 0
    assert_agrees(image, expected)


def test_pixels_outside_the_region_and_the_mask_are_zero(tmp_path):
    detector_mask = np.ones((24, 24), dtype=bool)
    detector_mask[5:9, :7] = False
    experiment = Experiment.from_nanobragg(f"{CUBIC} -detpixels 24 -roi 3 17 2 20")
    experiment = experiment.replace(detector=experiment.detector.replace(mask=detector_mask))
    gpu, cpu = Simulator(experiment, backend="cuda"), Simulator(experiment, backend="cpu")
    out = np.full((24, 24), 7.0, dtype=np.float32)
    gpu.render(out)

    inside = np.zeros((24, 24), dtype=bool)
    inside[2:21, 3:18] = True
    inside &= detector_mask
    assert (out[~inside] == 0).all()
    assert_agrees(out, cpu.render())
    assert gpu.statistics.pixels == cpu.statistics.pixels == inside.sum()


@pytest.mark.parametrize("precision", ["tile", "float64"])
def test_a_frame_in_several_bands_is_the_frame_in_one(monkeypatch, precision):
    experiment = Experiment.from_nanobragg(f"{CUBIC} -detpixels_x 12 -detpixels_y 20 -roi 1 10 3 18")
    whole = Simulator(experiment, backend="cuda", precision=precision).render()
    monkeypatch.setattr(cuda, "BAND_PIXELS", 12 * 9)
    cuda.release()
    simulator = Simulator(experiment, backend="cuda", precision=precision)
    done: list[float] = []
    image = simulator.render(progress=done.append)

    assert len(done) == 3
    assert done[-1] == 1.0
    np.testing.assert_array_equal(image, whole)


@pytest.mark.parametrize("precision", ["tile", "float64"])
def test_every_panel_of_a_detector_is_rendered_where_it_lies(precision):
    experiment = Experiment.from_nanobragg(f"{CUBIC} -detpixels_x 40 -detpixels_y 20 -oversample 2 -roi 2 37 1 18")
    plan = make_plan(experiment)
    whole = plan.panels[0]
    panels = []
    for first_row, first_column, n_slow, n_fast in ((0, 0, 20, 17), (0, 23, 11, 17), (11, 23, 9, 17)):
        down, across = first_row * whole.pitch_slow, first_column * whole.pitch_fast
        corner = {
            f"origin_{x}": getattr(whole, f"origin_{x}")
            + down * getattr(whole, f"slow_{x}")
            + across * getattr(whole, f"fast_{x}")
            for x in "xyz"
        }
        places = {"first_row": first_row, "first_column": first_column, "n_slow": n_slow, "n_fast": n_fast}
        panels.append(whole._replace(**places, **corner))
    cut = dataclasses.replace(plan, panels=tuple(panels))
    covered = np.zeros(plan.shape, dtype=bool)
    covered[1:19, 2:17] = covered[1:19, 23:38] = True
    out = np.full(plan.shape, 7.0, dtype=np.float32)

    Simulator(experiment, backend="cuda", precision=precision, plan=cut).render(out)

    assert (out[~covered] == 0).all()
    assert_agrees(out, np.where(covered, Simulator(experiment, backend="cpu", precision=precision).render(), 0.0))


@pytest.mark.parametrize("precision", ["tile", "float64"])
@pytest.mark.parametrize("fidelity", ["nanobragg", "physical"])
def test_crooked_panels_are_those_of_the_cpu(precision, fidelity):
    detector = crooked(thickness_um=300, attenuation_depth_um=400)
    places = ((0, 0), (3, 25), (21, 4))
    panels = [
        panel.replace(n_fast=20, n_slow=17, first_row=row, first_column=column, thickness_um=(0, 300, 500)[number])
        for number, (panel, (row, column)) in enumerate(zip(detector.panels, places, strict=False))
    ]
    experiment = lit(detector.replace(panels=panels), fidelity=fidelity, sampling=Sampling(oversample=1))
    gpu = Simulator(experiment, backend="cuda", precision=precision)
    cpu = Simulator(experiment, backend="cpu", precision="float64")

    image, expected = gpu.render(), cpu.render()

    assert gpu.precision == precision
    assert ((image > 0) == (expected > 0)).all()
    assert_agrees(image, expected)


def test_streamed_tiles_are_the_frame():
    experiment = Experiment.from_nanobragg(f"{CUBIC} -detpixels 32")
    whole = Simulator(experiment, backend="cuda", precision="float64")
    expected = whole.render()
    simulator = Simulator(experiment, backend="cuda", precision="float64")
    rows = {start: tile.copy() for start, tile in simulator.tiles(12)}

    assert list(rows) == [0, 12, 24]
    np.testing.assert_array_equal(np.concatenate(list(rows.values())), expected)
    assert simulator.statistics == whole.statistics


def test_rendering_goes_on_where_a_caller_left_the_tiles():
    """A caller that stops half way leaves no work behind that the next frame would trip over."""
    experiment = Experiment.from_nanobragg(f"{CUBIC} -detpixels 20")
    simulator = Simulator(experiment, backend="cuda", precision="float64")
    expected = simulator.render().copy()
    for _ in simulator.tiles(6):
        break

    np.testing.assert_array_equal(simulator.render(), expected)


def test_a_frame_may_stay_on_the_device():
    simulator = Simulator(Experiment.from_nanobragg(f"{CUBIC} -detpixels 16"), backend="cuda")
    frame = simulator.render(device_array=True)
    statistics = simulator.statistics

    assert devices.is_device_array(frame)
    np.testing.assert_array_equal(on_host(frame), simulator.render())
    assert statistics == simulator.statistics


def test_a_device_array_of_the_caller_is_filled_and_returned():
    from numba import cuda as numba_cuda

    simulator = Simulator(Experiment.from_nanobragg(f"{CUBIC} -detpixels 20 -roi 2 15 3 15"), backend="cuda")
    mine = numba_cuda.to_device(np.full((20, 20), 3.0, dtype=np.float32))

    assert simulator.render(mine) is mine
    np.testing.assert_array_equal(on_host(mine), simulator.render())


@pytest.mark.parametrize("shape, dtype", [((20, 21), np.float32), ((20, 20), np.float64)])
def test_a_device_array_of_another_shape_or_type_is_refused(shape, dtype):
    from numba import cuda as numba_cuda

    simulator = Simulator(Experiment.from_nanobragg(f"{CUBIC} -detpixels 20"), backend="cuda")
    with pytest.raises(InputError, match=r"out must be a C-contiguous float32 array of shape \(20, 20\)"):
        simulator.render(numba_cuda.to_device(np.zeros(shape, dtype)))


def test_a_device_array_is_refused_by_a_simulator_of_the_cpu():
    from numba import cuda as numba_cuda

    simulator = Simulator(Experiment.from_nanobragg(f"{CUBIC} -detpixels 20"), backend="cpu")
    with pytest.raises(InputError, match=r"out needs a CUDA backend \(this simulator renders on cpu"):
        simulator.render(numba_cuda.to_device(np.zeros((20, 20), np.float32)))


def test_the_structure_factors_are_sent_once_for_all_frames_that_share_them(monkeypatch):
    from bragg_numba.plan.arithmetic import cuda as arithmetic

    cuda.release()
    sent: list[int] = []
    padded = arithmetic.padded_table
    monkeypatch.setattr(arithmetic, "padded_table", lambda plan: sent.append(1) or padded(plan))
    experiment = Experiment.from_nanobragg(f"{PROTEIN} -detpixels 16")
    plan = make_plan(experiment)
    turned = experiment.replace(rotation=experiment.rotation.replace(phi_deg=3.0))
    other = make_plan(turned, like=plan)
    first = Simulator(experiment, backend="cuda", precision="tile", plan=plan)
    second = Simulator(turned, backend="cuda", precision="tile", plan=other)

    assert first._renderer.table is second._renderer.table
    assert len(sent) == 1
    fresh = Simulator(turned, backend="cuda", precision="tile", plan=make_plan(turned))
    assert fresh._renderer.table is not first._renderer.table


def test_too_little_device_memory_is_an_error_that_says_how_much(monkeypatch):
    cuda.release()
    monkeypatch.setattr(cuda.CudaRenderer, "_free_memory", lambda self: 100.0)
    with pytest.raises(InputError, match=r"would take [\d,]+ bytes on .*, where 80 are allowed"):
        Simulator(Experiment.from_nanobragg(f"{PROTEIN} -detpixels 16"), backend="cuda")


def test_little_device_memory_makes_small_bands(monkeypatch):
    experiment = Experiment.from_nanobragg(f"{CUBIC} -detpixels 32")
    expected = Simulator(experiment, backend="cuda", precision="float64").render()
    cuda.release()
    # Ten rows of both buffers, and the plan, which is small.
    monkeypatch.setattr(cuda.CudaRenderer, "_free_memory", lambda self: 10.5 * 32 * 2 * cuda.PIXEL_BYTES / 0.8)
    simulator = Simulator(experiment, backend="cuda", precision="float64")

    assert [stop - start for start, stop in simulator._renderer.ranges()] == [10, 10, 10, 2]
    np.testing.assert_array_equal(simulator.render(), expected)


def test_interpolations_beyond_the_table_are_counted():
    words = f"{PROTEIN} -detpixels 16 -interpolate -lambda 0.3 -pixel 4 -distance 20"
    gpu, cpu = pair(words)
    image, expected = gpu.render(), cpu.render()

    assert gpu.precision == "float64"
    assert "interpolations reached beyond" in cpu.notes[-1]
    assert gpu.notes == cpu.notes
    assert_agrees(image, expected)


def test_the_command_renders_on_the_device(tmp_path, capsys, monkeypatch):
    from bragg_numba.cli.nanobragg import main

    monkeypatch.chdir(tmp_path)
    words = f"{CUBIC} -detpixels 20 -nonoise -nopgm -noprogress -json".split()
    assert main([*words, "-backend", "cuda", "-floatfile", "gpu.bin"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert main([*words, "-backend", "cpu", "-floatfile", "cpu.bin"]) == 0

    assert (report["backend"], report["backend_reason"]) == ("cuda", "asked for")
    assert_agrees(np.fromfile("gpu.bin", "<f4"), np.fromfile("cpu.bin", "<f4"))


def test_the_command_says_why_it_renders_where(tmp_path, capsys, monkeypatch):
    from bragg_numba.cli.nanobragg import main

    monkeypatch.chdir(tmp_path)
    words = f"{CUBIC} -detpixels 16 -nonoise -nopgm -noprogress -floatfile f.bin".split()
    assert main(words) == 0
    said = "cpu: the CUDA simulator is no GPU" if devices.simulated() else "cuda: found"
    assert said in capsys.readouterr().out


def test_a_series_renders_on_the_device(tmp_path):
    import h5py

    from bragg_numba.series import Series

    series = Series(Experiment.from_nanobragg(f"{CUBIC} -detpixels 16"), {"phi_deg": np.array([0.0, 0.5])})
    for backend in ("cuda", "cpu"):
        series.write(tmp_path / backend / "s", backend=backend, spots=False)
    images = {}
    for backend in ("cuda", "cpu"):
        with h5py.File(tmp_path / backend / "s_master.h5") as file:
            images[backend] = file["/entry/data/data"][()]
    assert images["cuda"].shape == (2, 16, 16)
    assert_agrees(images["cuda"], images["cpu"])


def test_a_gpu_renders_what_a_cutoff_would_leave_out_and_says_so():
    words = f"{PROTEIN} -detpixels 16"
    cut = Simulator(Experiment.from_nanobragg(f"{words} -cutoff 1e6"), backend="cuda")
    whole = Simulator(Experiment.from_nanobragg(words), backend="cuda")

    np.testing.assert_array_equal(cut.render(), whole.render())
    assert (cut.engine, cut.cut_photons) == ("pixels", 0.0)
    assert cut.engine_reason == "spots cannot serve: pixels are large for their distance"
    assert any("cutoff of 1e+06 photons has no effect" in note for note in cut.notes)
    assert not any("cutoff" in note for note in whole.notes)


def test_crystals_of_a_frame_are_added_up_on_the_host():
    experiment = Experiment.from_nanobragg(f"{CUBIC} -detpixels 8 -water 3 -fluence 1e27")
    turned = experiment.crystal.replace(misset_deg=(10, 20, 30))
    together = experiment.replace(lattices=[(experiment.crystal, 0.5), (turned, 1.0)])
    gpu, cpu = (Simulator(together, backend=name) for name in ("cuda", "cpu"))
    expected = cpu.render()
    assert expected.min() > 0.0
    assert_agrees(gpu.render(), expected)
    assert_agrees(np.concatenate([rows.copy() for _, rows in gpu.tiles(3)]), expected)
    with pytest.raises(InputError, match="must be left to the host"):
        gpu.render(device_array=True)


@pytest.mark.parametrize("precision", ["tile", "float64"])
def test_the_channels_of_a_spectrum_have_their_weights(precision):
    experiment = Experiment.from_nanobragg(f"{CUBIC} -detpixels 20 -polar 0.5 -hdivrange 5 -hdivsteps 2")
    spectrum = Spectrum.table([1.0, 9.0, 3.0], wavelengths_A=[0.99, 1.0, 1.02])
    experiment = experiment.replace(beam=experiment.beam.replace(spectrum=spectrum))
    image = Simulator(experiment, backend="cuda", precision=precision).render()
    assert_agrees(image, Simulator(experiment, backend="cpu", precision="float64").render())
