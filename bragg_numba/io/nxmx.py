"""NXmx files: what DIALS, XDS and CrystFEL want to know about frames, in the frame of McStas.

McStas: z along the beam, y up, right-handed. Lengths in metres, angles in degrees.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import numpy as np

from bragg_numba.conventions import ENERGY_WAVELENGTH_EV_A
from bragg_numba.io.attributes import set_attributes
from bragg_numba.io.geometry import Geometry
from bragg_numba.versions import NOISE

#: Where counts are cut. The two values above mean "no pixel" and "bad pixel" to DIALS; it reads uint32 as int32.
SATURATION = {"uint16": 65533, "uint32": 2**31 - 3}

#: Largest pixel that is a measurement. Counts at the cut may have been more; photons are never cut.
LARGEST_VALID = {**{dtype: cut - 1 for dtype, cut in SATURATION.items()}, "float32": 2**53}

#: Bits of the pixel mask: no pixel there, and masked by the user. XDS's plugin takes bit 0 alone for "no data".
GAP, USER = 1, 1 << 8

#: Pixels that a detector has and that measure nothing: dead ones, and hot ones, which NXmx calls noisy.
DEAD, NOISY = 1 << 1, 1 << 4

#: Places of wide pixels between chips.
VIRTUAL = 1 << 30

#: DIALS refuses 0. It corrects parallax from the thickness, and this much shifts no spot; it also divides
#: intensities by 1 - exp(-mu t / cos), which is then about mu t / cos: its import file says otherwise (io/exports.py).
NO_SENSOR_M = 1e-9

#: Materials of sensors that DIALS reads; it stops at any other.
SENSORS = ("Si", "CdTe", "GaAs")

#: Bits of the pixel mask that DECTRIS's plugin for XDS looks at; it refuses a mask in chunks, so it has its own.
XDS_BITS = 0x1F

TRUTH = "/entry/truth"

_MASK, _SPECIFIC = "/entry/instrument/detector/pixel_mask", "/entry/instrument/detector/detectorSpecific"

_TRANSLATION = "/entry/instrument/detector/transformations/translation"


@dataclass(frozen=True, slots=True)
class McStasPanel:
    """A panel in the McStas frame; metres. ``origin`` is the outer corner of its pixel (0, 0)."""

    name: str
    origin: np.ndarray
    fast: np.ndarray  #: unit vectors
    slow: np.ndarray
    pitch_fast: float
    pitch_slow: float
    n_fast: int
    n_slow: int
    first_row: int  #: of the image
    first_column: int

    def place(self, fast: np.ndarray, slow: np.ndarray) -> np.ndarray:
        """Points (..., 3) at some pixels from the panel's corner."""
        along_fast, along_slow = self.pitch_fast * self.fast, self.pitch_slow * self.slow
        return self.origin + np.asarray(fast)[..., None] * along_fast + np.asarray(slow)[..., None] * along_slow

    def upright(self) -> tuple[McStasPanel, float]:
        """This panel with axes at right angles, turned about its centre, and how far that moves a corner, pixels."""
        wide, narrow = self.fast + self.slow, self.fast - self.slow
        wide, narrow = wide / np.linalg.norm(wide), narrow / np.linalg.norm(narrow)
        turned = replace(self, fast=(wide + narrow) / np.sqrt(2.0), slow=(wide - narrow) / np.sqrt(2.0))
        middle = np.array(self.n_fast / 2.0), np.array(self.n_slow / 2.0)
        turned = replace(turned, origin=self.origin + self.place(*middle) - turned.place(*middle))
        corners = np.array([0, self.n_fast, 0, self.n_fast]), np.array([0, 0, self.n_slow, self.n_slow])
        moved = np.linalg.norm(turned.place(*corners) - self.place(*corners), axis=1).max()
        return turned, float(moved / min(self.pitch_fast, self.pitch_slow))


@dataclass(frozen=True, slots=True)
class McStasGeometry:
    """The detector in the McStas frame; metres. ``origin`` is the outer corner of pixel (0, 0).

    Of several panels ``origin``, axes, pixel and distance are those of the one nearest to the beam.
    """

    rotation: np.ndarray  #: (3, 3), laboratory to McStas
    origin: np.ndarray
    fast: np.ndarray
    slow: np.ndarray
    spindle: np.ndarray
    pixel_size: float
    n_fast: int
    n_slow: int
    distance: float
    beam_center_px: tuple[float, float]  #: (fast, slow), from the outer corner; NaN where there is no single plane
    panels: tuple[McStasPanel, ...]
    is_single: bool  #: whether one panel of square pixels is the whole image


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedBy:
    """What a master of counts says of the detector response that they went through."""

    text: str  #: its parameters, JSON
    adu_per_photon: float  #: mean value of an absorbed photon
    pedestal_adu: float  #: mean value of a pixel without photons
    saturation: int  #: least value that is an overload
    rate_corrected: bool
    bad_bits: np.ndarray | None  #: uint32 (slow, fast), ``DEAD``, ``NOISY`` and ``VIRTUAL``; None: no bad pixels
    divided: bool = False  #: whether counts of wide pixels were divided among virtual ones


@dataclass(frozen=True, kw_only=True)
class Description:
    """What a master says about its frames, besides their pixels: plain numbers and arrays.

    ``omega_deg`` is None for stills, else (n + 1,): where every frame starts, and where the last one ends.
    ``wavelength_A`` is (1,), or (n,) one a frame; of a spectrum the mean. ``spectra`` are the wavelengths and weights
    behind it: (1, m, 2) where all frames share them, else (n, m, 2), filled up with NaN. ``shift_m`` (n, 3) is how
    far every frame's detector lies from the one that is described, McStas frame.
    """

    dtype: str  #: float32 for photons, uint16 or uint32 for counts
    frames: int
    geometry: McStasGeometry
    pixel_mask: np.ndarray  #: uint32 (slow, fast), bits ``GAP`` and ``USER``; 0 is a pixel that was rendered
    sensor_um: float | None  #: thickness; None: no sensor
    sensor_material: str | None = None  #: None: not said, silicon
    shift_m: np.ndarray | None = None
    omega_deg: np.ndarray | None = None
    cell: tuple[float, ...]  #: edges and angles of the first frame, angstrom and degrees
    wavelength_A: np.ndarray
    spectra: np.ndarray | None = None
    flux_per_s: float  #: 0: not known
    beam_size_mm: float
    exposure_s: float
    polarization: float | None  #: Kahn factor; None: no polarization factor at all
    polarization_normal: np.ndarray  #: of the plane that holds beam and E-vector, McStas frame
    stokes: np.ndarray  #: (1, 4), I = 1, with Q along x and U along x = y of the McStas frame
    process: dict[str, str]  #: text by name, for /entry/process
    layout: Geometry | None = None  #: the .geom that the detector was read from
    recorded: RecordedBy | None = None  #: the response of counts that are not Poisson counts alone

    def with_pixels(self, dtype: str) -> Description:
        """The same for another product of the series; photons did not go through the detector."""
        return replace(self, dtype=dtype, recorded=None if dtype == "float32" else self.recorded)

    @property
    def process_texts(self) -> dict[str, str]:
        """What /entry/process says of these frames, text by name."""
        texts = {"program": "bragg_numba", **self.process}
        if self.dtype != "float32":
            texts["noise"] = NOISE
        if self.recorded is not None:
            texts["response"] = self.recorded.text
        return texts

    @property
    def largest_valid(self) -> int:
        """Largest pixel that is a measurement."""
        most = LARGEST_VALID[self.dtype]
        return most if self.recorded is None else max(0, min(most, self.recorded.saturation - 1))

    @property
    def adu_per_photon(self) -> float:
        """Mean value of a photon: the gain of DIALS and CrystFEL."""
        return 1.0 if self.recorded is None else self.recorded.adu_per_photon

    @property
    def pedestal_adu(self) -> float:
        """Mean value of a pixel without photons."""
        return 0.0 if self.recorded is None else self.recorded.pedestal_adu

    @property
    def whole_mask(self) -> np.ndarray:
        """``pixel_mask`` with the detector's bad pixels."""
        if self.recorded is None or self.recorded.bad_bits is None:
            return self.pixel_mask
        return self.pixel_mask | self.recorded.bad_bits

    @property
    def mask_path(self) -> str:
        """Where the pixel mask is: not where NXmx has it if that tells nothing and DIALS 3.12 would stop there.

        That version cuts the mask into the panels and refuses a part whose rows are not whole rows of the image.
        """
        g = self.geometry
        aside = any((panel.first_column, panel.n_fast) != (0, g.n_fast) for panel in g.panels)
        needed = not aside or any(
            self.whole_mask[p.first_row : p.first_row + p.n_slow, p.first_column : p.first_column + p.n_fast].any()
            for p in g.panels
        )
        return _MASK if g.is_single or needed else f"{_SPECIFIC}/pixel_mask"

    @property
    def wavelength_of_frames(self) -> bool:
        """Whether every frame has its own wavelength."""
        return len(self.wavelength_A) > 1

    @property
    def mean_wavelength_A(self) -> float:
        """Mean of the frames."""
        return float(np.mean(self.wavelength_A))

    @property
    def bandwidth(self) -> float:
        """Standard deviation of a frame's spectrum over its mean; the root mean square of those of all frames."""
        if self.spectra is None:
            return 0.0
        lines, weights = self.spectra[..., 0], np.nan_to_num(self.spectra[..., 1])
        off = np.nan_to_num(lines / self.wavelength_A[:, None] - 1.0)
        return float(np.sqrt(np.mean(np.sum(weights * off**2, axis=1) / np.sum(weights, axis=1))))


def now() -> str:
    """The time as NeXus writes it; SOURCE_DATE_EPOCH, where set, makes files that can be made again byte by byte."""
    epoch = os.environ.get("SOURCE_DATE_EPOCH")
    moment = datetime.fromtimestamp(int(epoch), UTC) if epoch else datetime.now(UTC)
    return moment.isoformat(timespec="seconds").replace("+00:00", "Z")


def write_head(file, description: Description, start_time: str) -> None:
    """Write everything of an NXmx file but the frames and ``end_time``; ``file`` is an open h5py.File."""
    import h5py

    set_attributes(
        file,
        NX_class="NXroot",
        default="entry",
        creator="bragg_numba",
        file_time=start_time,
        HDF5_Version=h5py.version.hdf5_version,
    )
    entry = group(file, "entry", "NXentry", default="data")
    entry["definition"] = "NXmx"
    entry["title"] = "simulated diffraction " + ("photons" if description.dtype == "float32" else "counts")
    entry["start_time"] = start_time
    entry["end_time_estimated"] = start_time
    source = group(entry, "source", "NXsource")
    source["name"] = "simulation"
    set_attributes(source["name"], short_name="simulation")
    instrument = group(entry, "instrument", "NXinstrument")
    instrument["name"] = "bragg_numba"
    set_attributes(instrument["name"], short_name="bragg_numba")
    instrument["time_zone"] = "+00:00"
    _write_beam(group(instrument, "beam", "NXbeam"), description)
    _write_detector(group(instrument, "detector", "NXdetector"), description)
    _write_sample(entry, description)
    group(entry, "data", "NXdata", signal="data")
    process = group(entry, "process", "NXprocess")
    for name, text in description.process_texts.items():
        process[name] = text


def group(parent, name: str, nx_class: str, **attributes):
    """Create a group of a NeXus class."""
    made = parent.create_group(name)
    set_attributes(made, NX_class=nx_class, **attributes)
    return made


def _put(parent, name: str, value, units: str | None = None):
    parent[name] = value
    if units is not None:
        set_attributes(parent[name], units=units)
    return parent[name]


def _write_beam(beam_group, description: Description) -> None:
    wavelength = np.asarray(description.wavelength_A, dtype=np.float64)
    mean = _put(beam_group, "incident_wavelength", wavelength[0] if len(wavelength) == 1 else wavelength, "angstrom")
    if description.spectra is not None:
        # Who wants one wavelength finds it above, who wants the spectrum follows the variant. Weights beside the
        # wavelength itself would make DIALS before 3.13 take its first line, or stop.
        set_attributes(mean, variant="incident_wavelength_spectrum")
        lines, weights = description.spectra[..., 0], description.spectra[..., 1]
        filler = np.broadcast_to(wavelength[:, None], lines.shape)  # of spectra with fewer lines: weight 0
        lines, weights = np.where(np.isnan(lines), filler, lines), np.nan_to_num(weights)
        shared = len(lines) == 1
        _put(beam_group, "incident_wavelength_spectrum", lines[0] if shared else lines, "angstrom")
        _put(beam_group, "incident_wavelength_spectrum_weights", weights[0] if shared else weights)
    _put(beam_group, "incident_polarization_stokes", description.stokes, "dimensionless")
    if description.flux_per_s:
        _put(beam_group, "total_flux", description.flux_per_s, "Hz")
    size = description.beam_size_mm / 1000.0
    if size < 1.0:  # the default of other programs' command lines is no size at all
        _put(beam_group, "incident_beam_size", [size, size], "m")
        beam_group["profile"] = "rectangular"


def _write_detector(detector, description: Description) -> None:
    g = description.geometry
    detector["depends_on"] = _TRANSLATION
    detector["type"] = "Pixel"
    detector["description"] = "simulated pixel detector"
    base = "." if description.shift_m is None else _write_shifts(detector, description.shift_m)
    transformations = group(detector, "transformations", "NXtransformations")
    if g.is_single:
        _write_module(detector, transformations, g, base)
    else:
        _write_modules(detector, transformations, g, base)
    _put(detector, "distance", g.distance, "m")
    _put(detector, "detector_distance", g.distance, "m")
    material = description.sensor_material
    detector["sensor_material"] = material if material in SENSORS else SENSORS[0]
    thickness = NO_SENSOR_M if description.sensor_um is None else description.sensor_um * 1e-6
    _put(detector, "sensor_thickness", thickness, "m")
    bits = 16 if description.dtype == "uint16" else 32
    detector["bit_depth_readout"] = np.int64(bits)
    detector["bit_depth_image"] = np.int64(bits)
    detector["saturation_value"] = np.int64(description.largest_valid)
    detector["underload_value"] = np.int64(0)
    exposure = description.exposure_s
    _put(detector, "count_time", exposure, "s")
    _put(detector, "frame_time", exposure, "s")
    recorded = description.recorded
    detector["countrate_correction_applied"] = recorded is not None and recorded.rate_corrected
    if recorded is not None and recorded.divided:
        detector["virtual_pixel_interpolation_applied"] = True
    for name in ("flatfield_applied", "pixel_mask_applied"):
        detector[name] = False
    specific = group(detector, "detectorSpecific", "NXcollection")
    # A filter that every HDF5 has: a mask that cannot be read would stop who can read the frames.
    mask = detector.file.create_dataset(
        description.mask_path,
        data=description.whole_mask,
        chunks=(min(g.n_slow, 256), g.n_fast),
        shuffle=True,
        compression="gzip",
        compression_opts=1,
    )
    bits_text = "0: no pixel (masked, or outside the region of interest); 8: outside that, or in a shadow"
    if recorded is not None:
        bits_text += "; 1: dead; 4: hot; 30: virtual"
        detector["gain_setting"] = "standard"
        _put(specific, "adu_per_photon", recorded.adu_per_photon)
        _put(specific, "pedestal_adu", recorded.pedestal_adu)
    set_attributes(mask, bits=bits_text)
    import h5py

    if material is not None:
        specific["sensor_material"] = material
    specific["nimages"] = np.int64(description.frames)
    specific["ntrigger"] = np.int64(1)
    specific["x_pixels_in_detector"] = np.int64(g.n_fast)
    specific["y_pixels_in_detector"] = np.int64(g.n_slow)
    _put(specific, "photon_energy", ENERGY_WAVELENGTH_EV_A / description.mean_wavelength_A, "eV")
    if description.mask_path != _MASK:
        return
    if description.dtype == "float32":  # which XDS takes in no case
        specific["pixel_mask"] = h5py.SoftLink(_MASK)
    else:
        specific.create_dataset("pixel_mask", data=(description.whole_mask & XDS_BITS).astype(np.uint8))


def _write_module(detector, transformations, g: McStasGeometry, base: str) -> None:
    """Write the one module of a detector that is a single plane, and its beam centre."""
    length = float(np.linalg.norm(g.origin))
    direction = g.origin / length if length > 0.0 else np.array([0.0, 0.0, 1.0])
    _axis(transformations, "translation", length, "m", direction, base)
    module = group(detector, "module", "NXdetector_module")
    module["data_origin"] = np.array([0, 0], dtype=np.int64)
    module["data_size"] = np.array([g.n_slow, g.n_fast], dtype=np.int64)
    offset = "/entry/instrument/detector/module/module_offset"
    _axis(module, "module_offset", 0.0, "m", np.array([0.0, 0.0, 1.0]), _TRANSLATION)
    _axis(module, "fast_pixel_direction", g.pixel_size, "m", g.fast, offset)
    _axis(module, "slow_pixel_direction", g.pixel_size, "m", g.slow, offset)
    _put(detector, "x_pixel_size", g.pixel_size, "m")
    _put(detector, "y_pixel_size", g.pixel_size, "m")
    _put(detector, "beam_center_x", g.beam_center_px[0], "pixel")
    _put(detector, "beam_center_y", g.beam_center_px[1], "pixel")


def _write_modules(detector, transformations, g: McStasGeometry, base: str) -> None:
    """Write a module for each panel, with its axes at right angles, as DIALS wants them.

    Each has a module_offset that leads from the translation to its corner: DIALS up to 3.12 knows no other way.
    """
    along = np.array([0.0, 0.0, 1.0])
    distance = float(g.origin[2])
    _axis(transformations, "translation", distance, "m", along, base)
    for number, exact in enumerate(g.panels):
        panel, _ = exact.upright()
        # Numbered: readers take modules in the order of their names.
        module = group(detector, f"module_{number:04d}", "NXdetector_module")
        module["local_name"] = panel.name
        module["data_origin"] = np.array([panel.first_row, panel.first_column], dtype=np.int64)
        module["data_size"] = np.array([panel.n_slow, panel.n_fast], dtype=np.int64)
        corner = panel.origin - distance * along
        far = float(np.linalg.norm(corner))
        _axis(module, "module_offset", far, "m", corner / far if far > 0.0 else along, _TRANSLATION)
        offset = f"{module.name}/module_offset"
        _axis(module, "fast_pixel_direction", panel.pitch_fast, "m", panel.fast, offset)
        _axis(module, "slow_pixel_direction", panel.pitch_slow, "m", panel.slow, offset)
    _put(detector, "x_pixel_size", g.panels[0].pitch_fast, "m")
    _put(detector, "y_pixel_size", g.panels[0].pitch_slow, "m")


def _write_shifts(detector, shift_m: np.ndarray) -> str:
    """Write how far every frame's detector is shifted, and return the first axis of the three."""
    axes = group(detector, "shift", "NXtransformations")
    below = "."
    for name, values, vector in zip("zyx", shift_m.T[::-1], np.eye(3)[::-1], strict=True):
        _axis(axes, name, values, "m", vector, below)
        below = f"/entry/instrument/detector/shift/{name}"
    return below


def _axis(
    parent,
    name: str,
    value,
    units: str,
    vector: np.ndarray,
    depends_on: str,
    kind: str = "translation",
):
    axis = _put(parent, name, value, units)
    set_attributes(
        axis,
        transformation_type=kind,
        vector=np.asarray(vector, dtype=np.float64),
        offset=np.zeros(3),
        offset_units="m",
        depends_on=depends_on,
    )


def _write_sample(entry, description: Description) -> None:
    sample = group(entry, "sample", "NXsample")
    sample["name"] = "simulated crystal"
    omega = description.omega_deg
    if omega is None:
        sample["depends_on"] = "."
        return
    sample["depends_on"] = "/entry/sample/transformations/omega"
    axes = group(sample, "transformations", "NXtransformations")
    _axis(axes, "omega", omega[:-1], "deg", description.geometry.spindle, ".", "rotation")
    _put(axes, "omega_end", omega[1:], "deg")
    _put(axes, "omega_increment_set", float(np.mean(np.diff(omega))), "deg")
