"""Spectra: their images are sums of monochromatic ones, their statistics those of the models they are named after."""

import numpy as np
import pytest

from bragg_numba import Beam, Experiment, InputError, Spectrum, simulate
from bragg_numba.conventions import ENERGY_WAVELENGTH_EV_A
from bragg_numba.plan.plan import make_plan

EPS32 = np.finfo(np.float32).eps
WORDS = "-cell 100 -default_F 100 -N 5 -detpixels 32 -pixel 0.8 -lambda 1.3 -oversample 1 -misset 10 20 30"

SPECTRA = {
    "gaussian": Spectrum.gaussian(1.0, channels=5),
    "pink": Spectrum.pink(1.0, 2.0, channels=5),
    "sase": Spectrum.sase(0.5, pulse_fs=20.0, channels=6, energy_jitter_percent=10.0),
    "table": Spectrum.table([[1.0, 0.0, 3.0], [1.0, 1.0, 6.0]], wavelengths_A=[1.3, 1.31, 1.302]),
}


def with_spectrum(spectrum, shot=0, **more):
    experiment = Experiment.from_nanobragg(WORDS).replace(**more)
    return experiment.replace(beam=experiment.beam.replace(spectrum=spectrum, shot=shot))


def weighted_sum(experiment):
    """The images of the single wavelengths, each with its photons."""
    beam = experiment.beam
    pulse = beam.pulse
    total = 0.0
    for wavelength, share in zip(pulse.wavelength_m * 1e10, pulse.weight / pulse.weight.sum(), strict=True):
        fluence = beam.mean_photons_per_m2 * pulse.energy * share
        alone = beam.replace(spectrum=None, shot=0, wavelength_A=wavelength, fluence_per_m2=fluence)
        total = total + simulate(experiment.replace(beam=alone)).astype(np.float64)
    return total


@pytest.mark.parametrize("engine", ["pixels", "spots"])
@pytest.mark.parametrize("fidelity", ["nanobragg", "physical"])
@pytest.mark.parametrize("name", SPECTRA)
def test_an_image_is_the_weighted_sum_of_monochromatic_ones(name, fidelity, engine):
    experiment = with_spectrum(SPECTRA[name], shot=1, fidelity=fidelity)
    cutoff = 1e-20 if engine == "spots" else 0.0
    experiment = experiment.replace(sampling=experiment.sampling.replace(engine=engine, cutoff_photons=cutoff))
    expected = weighted_sum(experiment)
    assert np.abs(simulate(experiment) - expected).max() < 1e-6 * expected.max()


@pytest.mark.parametrize("engine", ["pixels", "spots"])
@pytest.mark.parametrize("fidelity", ["nanobragg", "physical"])
@pytest.mark.parametrize("words", ["-hdivrange 5 -hdivsteps 3", "-divergence 5 -divsteps 2 -polar 0.9", "-dmin 3"])
def test_so_it_is_with_a_divergence_and_a_resolution_limit(words, fidelity, engine):
    experiment = Experiment.from_nanobragg(f"{WORDS} {words}").replace(fidelity=fidelity)
    experiment = experiment.replace(beam=experiment.beam.replace(spectrum=Spectrum.pink(1.0, channels=4)))
    cutoff = 1e-20 if engine == "spots" else 0.0
    experiment = experiment.replace(sampling=experiment.sampling.replace(engine=engine, cutoff_photons=cutoff))
    assert len(make_plan(experiment).sources.weight) in (4, 12, 16)
    expected = weighted_sum(experiment)
    assert np.abs(simulate(experiment) - expected).max() < 1e-6 * expected.max()


@pytest.mark.parametrize("fidelity", ["nanobragg", "physical"])
def test_float64_weighs_the_same_channels(fidelity):
    experiment = with_spectrum(SPECTRA["gaussian"], fidelity=fidelity)
    image = simulate(experiment, precision="float64")
    assert np.abs(image - simulate(experiment)).max() < 1e-6 * image.max()


@pytest.mark.parametrize("spectrum", [Spectrum.monochromatic(), Spectrum.table([3.0], wavelengths_A=[1.3])])
@pytest.mark.parametrize("fidelity", ["nanobragg", "physical"])
def test_one_channel_renders_the_very_bits_of_a_beam_without_a_spectrum(fidelity, spectrum):
    plain = Experiment.from_nanobragg(WORDS).replace(fidelity=fidelity)
    assert (simulate(with_spectrum(spectrum, fidelity=fidelity)) == simulate(plain)).all()


def test_equal_weights_are_no_weights_under_fidelity_nanobragg():
    plan = make_plan(with_spectrum(Spectrum.tophat(1.0, channels=4)))
    assert not plan.rules.weighted and (plan.sources.weight == 1.0).all()


def test_weights_of_a_source_file_stay_ignored_as_in_c():
    rows = tuple((None, None, None, weight, length * 1e-10) for weight, length in ((1.0, 1.3), (9.0, 1.31)))
    experiment = Experiment.from_nanobragg(WORDS)
    plan = make_plan(experiment.replace(beam=experiment.beam.replace(sources=rows)))
    assert not plan.rules.weighted and plan.sources.weight.tolist() == [1.0, 1.0]


# --- shapes


def moments(spectrum, wavelength_A=1.0):
    """Mean and sigma of the photon energy over the central one."""
    pulse = spectrum.pulse(wavelength_A)
    energies = wavelength_A * 1e-10 / pulse.wavelength_m
    mean = np.average(energies, weights=pulse.weight)
    return mean, np.sqrt(np.average((energies - mean) ** 2, weights=pulse.weight))


def test_a_gaussian_has_its_width_and_a_top_hat_its_own():
    mean, sigma = moments(Spectrum.gaussian(1.0, channels=400))
    # Cut at 3 sigma, a Gaussian's variance is 0.9733 of its own.
    assert mean == pytest.approx(1.0, abs=1e-9) and sigma == pytest.approx(0.01 / 2.3548 * 0.9733**0.5, rel=2e-3)
    mean, sigma = moments(Spectrum.tophat(1.0, channels=400))
    assert mean == pytest.approx(1.0, abs=1e-9) and sigma == pytest.approx(0.01 / 12**0.5, rel=1e-4)


@pytest.mark.parametrize("tail", [0.005, 0.5, 2.0, 10.0])
def test_a_pink_line_has_a_tail_to_low_energies(tail):
    mean, sigma = moments(Spectrum.pink(1.0, tail, channels=4000))
    # Cut 5 tails below, the exponential's mean is 0.966 of its own.
    assert 1.0 - mean == pytest.approx(0.01 * tail, rel=0.05, abs=2e-6)
    assert sigma == pytest.approx(np.hypot(0.01 / 2.3548, 0.01 * tail), rel=0.13)


SASE = Spectrum.sase(0.4, pulse_fs=20.0, channels=20, seed=7)


def drawn(spectrum, n, wavelength_A=1.7414):
    """Photons of each channel in n shots, over those of the whole mean pulse."""
    pulses = [spectrum.pulse(wavelength_A, shot) for shot in range(n)]
    return np.array([pulse.weight / pulse.weight.sum() * pulse.energy for pulse in pulses])


def test_sase_channels_are_gamma_deviates_of_as_many_modes_as_they_hold_spikes():
    n = 4000
    photons = drawn(SASE, n)
    mean = photons.mean(axis=0)
    modes = SASE.channel_eV(1.7414) / SASE.spike_eV
    assert SASE.spike_eV == pytest.approx(0.0912, rel=1e-3) and modes > 1.0
    expected = Spectrum.gaussian(0.4, channels=20).pulse(1.7414).weight
    # Five standard errors: of a mean, sigma / sqrt(n); of a Gamma's variance, sqrt((2 + 6 / M) / n) of itself.
    assert np.abs(mean / expected - 1.0).max() < 5.0 / np.sqrt(modes * n)
    assert np.abs(photons.var(axis=0) / expected**2 * modes - 1.0).max() < 5.0 * np.sqrt((2.0 + 6.0 / modes) / n)
    # The third moment tells a Gamma from a Gaussian: skewness 2 / sqrt(M).
    skew = ((photons - mean) ** 3).mean(axis=0) / photons.std(axis=0) ** 3
    assert skew.mean() == pytest.approx(2.0 / np.sqrt(modes), rel=0.1)


def test_sase_channels_know_nothing_of_each_other_nor_do_shots():
    n = 4000
    photons = drawn(SASE, n)
    off = np.corrcoef(photons.T)[~np.eye(20, dtype=bool)]
    assert np.abs(off).max() < 5.0 / np.sqrt(n)
    assert abs(np.corrcoef(photons[1:, 9], photons[:-1, 9])[0, 1]) < 5.0 / np.sqrt(n)


def test_longer_pulses_fluctuate_less():
    modes = [drawn(Spectrum.sase(0.4, fs, channels=20), 500).sum(axis=1).var() ** -1 for fs in (20.0, 80.0)]
    assert 3.0 < modes[1] / modes[0] < 5.5


def test_what_is_drawn_depends_on_seed_and_shot_alone():
    jittered = SASE.replace(energy_jitter_percent=5.0, centre_jitter_percent=0.1)
    weights = SASE.pulse(1.0, 3).weight
    # One jitter more shifts no other stream.
    assert (jittered.pulse(1.0, 3).weight == weights).all()
    assert (SASE.pulse(1.0, 3).weight == weights).all()
    assert not np.allclose(SASE.pulse(1.0, 4).weight, weights)
    assert not np.allclose(SASE.replace(seed=8).pulse(1.0, 3).weight, weights)


def test_jitters_have_their_sigmas():
    spectrum = Spectrum.monochromatic(energy_jitter_percent=20.0, centre_jitter_percent=0.1)
    pulses = [spectrum.pulse(1.0, shot) for shot in range(3000)]
    energies = np.array([pulse.energy for pulse in pulses])
    centres = 1.0 / np.array([pulse.mean_A for pulse in pulses])
    # Five standard errors of a mean and of a sigma.
    assert energies.mean() == pytest.approx(1.0, abs=5 * 0.2 / 3000**0.5)
    assert energies.std() == pytest.approx(0.2, rel=5 * (2 * 3000) ** -0.5 * 1.1) and energies.min() > 0.0
    assert centres.std() == pytest.approx(0.001, rel=5 * (2 * 3000) ** -0.5)


def test_two_colours_and_a_seeded_line_have_their_shares():
    two = Spectrum.sase(0.2, 50.0, channels=100, second_percent=1.0, second_share=0.25)
    energies = 1e-10 / two.pulse(1.0).wavelength_m
    photons = drawn(two, 300, 1.0)
    assert photons[:, energies > 1.005].sum() / photons.sum() == pytest.approx(0.25, rel=0.03)
    seeded = Spectrum.sase(0.4, 50.0, channels=200, seeded_share=0.5, seeded_percent=0.01)
    energies = 1e-10 / seeded.pulse(1.0).wavelength_m
    photons = drawn(seeded, 600, 1.0)
    line = np.abs(energies - 1.0) < 0.0002
    assert 0.45 < photons[:, line].sum() / photons.sum() < 0.65


def test_channel_jitter_keeps_every_channel_within_its_own_width():
    even = Spectrum.tophat(1.0, channels=10)
    jittered = even.replace(channel_jitter=True)
    places = np.array([1e-10 / jittered.pulse(1.0, shot).wavelength_m for shot in range(200)])
    off = (places - 1e-10 / even.pulse(1.0).wavelength_m) / 0.001
    assert np.abs(off).max() <= 0.5 + 1e-9 and off.std() == pytest.approx(12**-0.5, rel=0.05)


def test_spectra_of_a_table_keep_their_photons_and_move_where_they_are_wanted():
    table = Spectrum.table([[1.0, 1.0], [3.0, 3.0]], energies_eV=[9000.0, 9010.0])
    assert [table.pulse(1.0, shot).energy for shot in (0, 1)] == [0.5, 1.5]
    assert table.replace(equal_energy=True).pulse(1.0, 1).energy == 1.0
    beam = Beam(wavelength_A=1.0, spectrum=table, shot=1, fluence_per_m2=10.0)
    assert beam.photons_per_m2 == 15.0
    assert ENERGY_WAVELENGTH_EV_A / beam.wavelength_A == pytest.approx(9005.0, rel=1e-6)
    moved = Beam(wavelength_A=1.0, spectrum=table.replace(recentre=True))
    assert moved.wavelength_A == 1.0 and moved.pulse.mean_A == pytest.approx(1.0, abs=1e-6)


# --- sampling


def notes_of(channels, **more):
    experiment = with_spectrum(Spectrum.tophat(1.0, channels=channels, **more))
    counts = experiment.crystal.replace(cell_counts=(2000, 2000, 2000))
    return [note for note in make_plan(experiment.replace(crystal=counts)).notes if "channels" in note]


def test_coarse_channels_are_said_with_the_number_that_would_do():
    (note,) = notes_of(5)
    wanted = int(note.split(" channels would do")[0].split()[-1])
    # dE / E < d^2 / (N a lambda) at the detector's corner.
    places = with_spectrum(None).pixel_positions_m()
    angle = np.arccos((places[..., 0] / np.linalg.norm(places, axis=-1)).min())  # the beam runs along x
    d = 1.3 / (2.0 * np.sin(angle / 2.0))
    assert wanted == pytest.approx(0.01 * 2000 * 100 * 1.3 / d**2, rel=0.08)  # pixels have corners beyond their centres
    assert not notes_of(wanted + 1) and notes_of(wanted - 2) and not notes_of(5, channel_jitter=True)


def test_mosaic_domains_allow_coarser_channels():
    experiment = with_spectrum(Spectrum.tophat(1.0, channels=5))
    crystal = experiment.crystal.replace(cell_counts=(4000, 4000, 4000), mosaic_spread_deg=0.0)
    assert any("channels would do" in note for note in make_plan(experiment.replace(crystal=crystal)).notes)
    mosaic = crystal.replace(mosaic_spread_deg=0.5, mosaic_domains=20)
    assert not any("channels would do" in note for note in make_plan(experiment.replace(crystal=mosaic)).notes)


def test_the_steps_of_a_dispersion_may_be_as_coarse():
    experiment = with_spectrum(None)
    crystal = experiment.crystal.replace(cell_counts=(2000, 2000, 2000))
    said = []
    for steps in (5, 1000):
        beam = experiment.beam.replace(dispersion_percent=1.0, dispersion_steps=steps)
        said.append([note for note in make_plan(experiment.replace(crystal=crystal, beam=beam)).notes if "eV" in note])

    ((coarse,), fine) = said
    assert coarse.startswith("the wavelengths of the dispersion are") and coarse.endswith("-dispsteps would do")
    assert not fine


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("-spectrum gaussian", "-bandwidth must be given"),
        ("-spectrum pink -channels 0", "-bandwidth must be given"),
        ("-spectrum tophat -bandwidth 0", "-bandwidth must be above 0"),
        ("-spectrum sase -bandwidth 1", "-pulse_fs must be given"),
    ],
)
def test_what_a_shape_needs_is_named_by_its_flag(words, said):
    with pytest.raises(InputError, match=said):
        Experiment.from_nanobragg(f"-cell 50 -default_F 1 {words}")


def test_channels_narrower_than_a_spike_are_said():
    notes = make_plan(with_spectrum(Spectrum.sase(0.1, pulse_fs=2.0, channels=100))).notes
    assert any("narrower than a spike" in note for note in notes)


# --- what is refused


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Spectrum(shape="gausian"), "shape must be one of"),
        (lambda: Spectrum.gaussian(0.0), "bandwidth_percent must be above 0"),
        (lambda: Spectrum.gaussian(-1.0), "bandwidth_percent"),
        (lambda: Spectrum.gaussian(100.0), "a photon energy above 0"),
        (lambda: Spectrum(shape="sase", bandwidth_percent=1.0), "pulse_fs must be given"),
        (lambda: Spectrum.gaussian(1.0, pulse_fs=3.0), "has no effect on shape gaussian"),
        (lambda: Spectrum.gaussian(1.0, channels=0), "channels"),
        (lambda: Spectrum.table([1.0]), "either energies_eV or wavelengths_A"),
        (lambda: Spectrum.table([1.0, 2.0], energies_eV=[9000.0]), "shape"),
        (lambda: Spectrum.table([1.0, -2.0], energies_eV=[9000.0, 9001.0]), "at least 0"),
        (lambda: Spectrum.table([0.0, 0.0], energies_eV=[9000.0, 9001.0]), "sum above 0"),
        (lambda: Spectrum.table([[1.0], [0.0]], energies_eV=[9000.0]), "shot 1"),
        (lambda: Spectrum.table([float("nan")], energies_eV=[9000.0]), "finite"),
        (lambda: Spectrum.table([1.0], energies_eV=[0.0]), "above 0"),
        (lambda: Spectrum.table([], energies_eV=[]), "at least one channel"),
        (lambda: Beam(spectrum="gaussian"), "must be a Spectrum"),
        (lambda: Beam(spectrum=SASE, dispersion_percent=1.0), "dispersion"),
        (lambda: Beam(spectrum=SASE, sources=((1, 0, 0, 1, None),)), "sources"),
        (lambda: Beam(spectrum=SPECTRA["table"], shot=2), "below 2"),
    ],
)
def test_a_spectrum_that_cannot_be_is_one_sentence(make, words):
    with pytest.raises(InputError, match=words):
        make()


@pytest.mark.parametrize("spectrum", SPECTRA.values(), ids=SPECTRA)
def test_a_spectrum_comes_back_from_json(spectrum):
    experiment = with_spectrum(spectrum, shot=1)
    assert Experiment.from_json(experiment.to_json()) == experiment
    assert "spectrum" in str(experiment) and "Spectrum" in repr(experiment.beam)
