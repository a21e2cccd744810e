"""What a series writes, and under which names."""

from __future__ import annotations

import dataclasses
import difflib
from dataclasses import dataclass
from pathlib import Path

from bragg_numba import checks as check
from bragg_numba.errors import InputError
from bragg_numba.io.compression import COMPRESSIONS
from bragg_numba.io.data_file import photons_folder

COUNT_TYPES = ("uint16", "uint32")

#: Data files and frames of a master at most, where ``frames_per_master`` does not say: what programs pay when they
#: open it, and what the process that writes it holds of the truth (docs/scale.md).
FILES_PER_MASTER = 1000
FRAMES_PER_MASTER = 100_000

LAYOUTS = ("nxmx", "geom")


def type_of_counts(counts: str | None, response) -> str | None:
    """The type of counts that are drawn in any case: uint16 where nobody says one; None where the response does."""
    return "uint16" if counts is None and response in (None, "none") else counts


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputOptions:
    """What is written for every frame."""

    photons: bool = True  #: expected photons, float32
    counts: str | None = None  #: Poisson counts as "uint16" or "uint32"; None or "none": none
    seed: int = 1  #: of the noise, where the table of frames has no seed
    scale: float = 1.0  #: photons are multiplied by this before noise
    compression: str = "bslz4"  #: or "none", "gzip", "zstd"
    frames_per_file: int = 100
    frames_per_master: int | None = None  #: more get several masters and an index; None: 1000 files, 100,000 frames
    spots: bool = True  #: write the table of spots
    spot_threshold: float = 1.0  #: photons below which a reflection is left out of it
    labels: bool = False  #: write label images: which spot each pixel belongs to, and means over its photons
    backend: str = "auto"
    precision: str = "auto"
    exports: bool = True  #: write text files for CrystFEL, DIALS, pyFAI and XDS beside the masters
    response: str | dict | None = None  #: the detector: a preset, or fields (docs/response.md); None: Poisson counts
    layout: str = "nxmx"  #: or "geom": the frames once more, in the layout of the .geom that the detector is from

    def __post_init__(self) -> None:
        put, pre = (lambda name, value: object.__setattr__(self, name, value)), "output."
        put("photons", check.flag(pre + "photons", self.photons))
        # As the command line says it, a plan may say it.
        put("response", None if self.response == "none" else self.response)
        if self.response is not None:
            from bragg_numba.response.choice import plain_response, resolve

            put("response", plain_response(pre + "response", self.response))
            if self.counts == "none":
                raise InputError(pre + "response", "needs counts, which are what a detector says", self.response)
            if self.counts is None:
                put("counts", resolve(self.response).pixel_type())
        put("counts", None if self.counts == "none" else self.counts)
        put("counts", check.optional(check.choice, pre + "counts", self.counts, allowed=COUNT_TYPES))
        if not self.photons and self.counts is None:
            raise InputError("output", "must write photons or counts")
        if isinstance(self.seed, float) and self.seed != int(self.seed):
            raise InputError(pre + "seed", "must be a whole number", self.seed)
        seed = int(check.number(pre + "seed", self.seed, low=0, high=2.0**64) and self.seed)
        put("seed", seed)
        put("scale", check.number(pre + "scale", self.scale, low=0.0, high=1e30))
        put("compression", check.choice(pre + "compression", self.compression, COMPRESSIONS))
        put("frames_per_file", check.count(pre + "frames_per_file", self.frames_per_file, low=1, high=1_000_000))
        most = check.optional(check.count, pre + "frames_per_master", self.frames_per_master, low=1, high=10_000_000)
        if most is not None and most % self.frames_per_file:
            rule = "must be a multiple of frames_per_file: a master has whole data files"
            raise InputError(pre + "frames_per_master", rule, most, hint=f"frames_per_file is {self.frames_per_file}")
        put("frames_per_master", most)
        put("spots", check.flag(pre + "spots", self.spots))
        put("exports", check.flag(pre + "exports", self.exports))
        put("layout", check.choice(pre + "layout", self.layout, LAYOUTS))
        put("labels", check.flag(pre + "labels", self.labels))
        if self.labels and not self.spots:
            raise InputError(pre + "labels", "need the table of spots, whose rows they name")
        put("spot_threshold", check.number(pre + "spot_threshold", self.spot_threshold, low=1e-30, high=1e30))

    def to_dict(self) -> dict:
        """Return plain values by name; how a series is split only where that was said, as before there was a way to."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        if self.frames_per_master is None:
            del values["frames_per_master"]
        return values

    def pixel_options(self) -> dict:
        """Return the options that the data files depend on, by name."""
        # Those that are off are left out: digests are as before there were any.
        off = {name for name in ("labels", "response") if not getattr(self, name)}
        without = {"exports", "layout", "frames_per_master", *off}
        return {name: value for name, value in self.to_dict().items() if name not in without}

    @classmethod
    def from_dict(cls, values: dict) -> OutputOptions:
        """Build from a dict; an unknown name is an error that names the nearest."""
        known = [field.name for field in dataclasses.fields(cls)]
        for name in values:
            if name not in known:
                near = difflib.get_close_matches(name, known, n=1)
                hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(known)}"
                raise InputError(f"output.{name}", "is not a known option", hint=hint)
        return cls(**values)

    @property
    def files_per_master(self) -> int:
        """Data files that a master has at most."""
        if self.frames_per_master is not None:
            return self.frames_per_master // self.frames_per_file
        return max(1, min(FILES_PER_MASTER, FRAMES_PER_MASTER // self.frames_per_file))

    @property
    def products(self) -> dict[str, str]:
        """Pixel type by product: "photons" float32, "counts" uint16 or uint32."""
        found = {"photons": "float32"} if self.photons else {}
        if self.counts is not None:
            found["counts"] = self.counts
        return found


def master_path(prefix, product: str, options: OutputOptions) -> Path:
    """Name of a product's master: PREFIX_master.h5; where both are written, PREFIX_counts_master.h5 for the counts.

    The photons then have a folder of their own, PREFIX_photons: DIALS takes all masters of a folder for one
    experiment if it is told to import ``*.h5``.
    """
    return _named(prefix, product, options, "master.h5")


def run_name(number: int) -> str:
    """What the names of a run's master and text files have after the prefix; runs count from 1."""
    return f"run{number:04d}"


def run_path(prefix, product: str, options: OutputOptions, number: int) -> Path:
    """Name of the master of a run, where a series has several: PREFIX_run0001_master.h5."""
    return _named(prefix, product, options, f"{run_name(number)}_master.h5")


def index_path(prefix, product: str, options: OutputOptions) -> Path:
    """Name of the index of the masters of runs: PREFIX_index.h5."""
    return _named(prefix, product, options, "index.h5")


def data_path(prefix, product: str, options: OutputOptions, number: int) -> Path:
    """Name of data file ``number``, from 1: PREFIX_data_000001.h5."""
    return _named(prefix, product, options, f"data_{number:06d}.h5")


def _named(prefix, product: str, options: OutputOptions, end: str) -> Path:
    prefix = Path(prefix)
    if not (options.photons and options.counts):
        return prefix.with_name(f"{prefix.name}_{end}")
    if product == "counts":
        return prefix.with_name(f"{prefix.name}_counts_{end}")
    return photons_folder(prefix) / f"{prefix.name}_{end}"
