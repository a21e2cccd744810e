"""nanoBragg's flags, one line each: the table behind the parser, the help text and the documentation."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Flag:
    """A flag: its name and synonyms, what it takes, and one line of help with unit and default."""

    names: tuple[str, ...]
    #: (metavar, kind) each; a kind is number, count (0 or more; 0: choose for me), integer, file or word.
    values: tuple[tuple[str, str], ...]
    group: str
    help: str

    @property
    def key(self) -> str:
        """The flag's first name without its dash."""
        return self.names[0].lstrip("-")


def _flag(names: str, values: str, group: str, text: str) -> Flag:
    pairs = (part.partition(":") for part in values.split())
    takes = tuple((meaning, kind) for meaning, _, kind in pairs)
    return Flag(tuple("-" + name for name in names.split()), takes, group, text)


_V = "x:number y:number z:number"

FLAGS: tuple[Flag, ...] = tuple(
    _flag(*row)
    for row in (
        # --- crystal
        ("hkl hklfile", "FILE:file", "crystal", "text file of h k l F for the P1 cell"),
        ("mtz", "FILE:file", "crystal", "merged MTZ file instead of -hkl; its cell serves where none is given"),
        ("cif", "FILE:file", "crystal", "CIF file of structure factors instead of -hkl, likewise"),
        ("pdb", "FILE:file", "crystal", "coordinates, PDB or mmCIF, instead of -hkl, to -dmin; likewise"),
        ("labels", "NAMES:word", "crystal", "columns of -mtz or -cif, with a comma between two: F(+),F(-)"),
        (
            "anomalous",
            "",
            "crystal",
            "of -pdb: auto, or for each element Fe auto, Fe FILE of eV f' f'', Fe -3.5 2.1 (f' f'', electrons)",
        ),
        ("solvent", "k_sol:number B_sol:number", "crystal", "flat solvent of -pdb, e/A^3 and A^2: 0.35 46 is usual"),
        (
            "default_F default_Fhkl",
            "F:number",
            "crystal",
            "F of every reflection that is not listed; default 0",
        ),
        (
            "dump",
            "FILE:file",
            "crystal",
            "binary cache of -hkl, read when -hkl is not given; default Fdump.bin",
        ),
        ("mat matrix", "FILE:file", "crystal", "MOSFLM orientation matrix (wavelength / angstrom)"),
        (
            "cell",
            "",
            "crystal",
            "a [b c al be ga]: unit cell, angstrom and degrees; b, c default a, angles 90",
        ),
        ("misset", "", "crystal", "rx ry rz (degrees about lab x, y, z, in this order), or the word random"),
        ("N", "n:integer", "crystal", "unit cells along a, b and c; default 1"),
        ("Na", "n:integer", "crystal", "unit cells along a"),
        ("Nb", "n:integer", "crystal", "unit cells along b"),
        ("Nc", "n:integer", "crystal", "unit cells along c"),
        (
            "N_matrix",
            "aa:number ab:number ac:number ba:number bb:number bc:number ca:number cb:number cc:number",
            "crystal",
            "cells along and across a, b, c, instead of -N (docs/mosaicity.md)",
        ),
        ("block_file", "FILE:file", "crystal", "Na Nb Nc weight, one size of blocks a line, instead of -N"),
        ("block_spread", "sigma:number", "crystal", "log-normal sizes of blocks about -N: sigma of ln(edge)"),
        ("block_sizes", "n:count", "crystal", "how many sizes stand for -block_spread; default 7"),
        ("blocks", "x:number", "crystal", "how many blocks the beam lights; default 1"),
        ("xtalsize xtal_size samplesize sample_size", "mm:number", "crystal", "crystal edge, overrides -N"),
        ("xtal_thick xtal_x sample_thick sample_x", "mm:number", "crystal", "crystal size along a"),
        (
            "xtal_width xtal_y sample_width sample_y width",
            "mm:number",
            "crystal",
            "along b; the beam clips it",
        ),
        (
            "xtal_height xtal_heigh xtal_z sample_height sample_heigh sample_z height heigh",
            "mm:number",
            "crystal",
            "along c; the beam clips it",
        ),
        ("square_xtal", "", "crystal", "parallelepiped crystal (default)"),
        ("round_xtal", "", "crystal", "ellipsoidal crystal"),
        ("gauss_xtal", "", "crystal", "Gaussian spots without side maxima"),
        ("tophat_spots binary_spots", "", "crystal", "flat spots clipped at half width"),
        ("fudge", "x:number", "crystal", "multiplies the squared radius of round, gauss, tophat; default 1"),
        ("mosaic mosaici mosaicity mosaic_spr mosaic_spread", "deg:number", "crystal", "mosaic spread"),
        (
            "mosaic_xyz",
            "deg:number deg:number deg:number",
            "crystal",
            "mosaic spreads about lab x, y, z, instead of -mosaic",
        ),
        (
            "mosaic_model",
            "cap|gauss:word",
            "crystal",
            "how the angles of domains are drawn; default cap, as in nanoBragg",
        ),
        (
            "mosaic_file",
            "FILE:file",
            "crystal",
            "nine numbers of a rotation and a weight, one domain a line, instead of -mosaic",
        ),
        (
            "mosaic_domains mosaic_dom mosaic_domain",
            "n:count",
            "crystal",
            "mosaic domains; default 10 with -mosaic",
        ),
        ("water", "um:number", "crystal", "edge of a cube of water that adds background; default 0"),
        (
            "density sample_den sample_density",
            "x:number",
            "crystal",
            "accepted; has no effect, as in nanoBragg",
        ),
        ("MW molec molecular_weight", "x:number", "crystal", "accepted; has no effect, as in nanoBragg"),
        # --- beam
        ("lambda wave wavelength", "A:number", "beam", "wavelength, angstrom; default 1"),
        ("energy", "eV:number", "beam", "photon energy instead of -lambda"),
        ("dispersion", "percent:number", "beam", "full spread of wavelengths; default 0"),
        ("dispsteps", "n:count", "beam", "wavelengths in that spread; default 2"),
        ("divergence", "mrad:number", "beam", "full range of both divergences"),
        ("hdivrange", "mrad:number", "beam", "horizontal divergence"),
        ("vdivrange", "mrad:number", "beam", "vertical divergence"),
        ("hdivstep", "mrad:number", "beam", "step of the horizontal divergence"),
        ("vdivstep", "mrad:number", "beam", "step of the vertical divergence"),
        ("hdivsteps", "n:count", "beam", "steps of the horizontal divergence"),
        ("vdivsteps", "n:count", "beam", "steps of the vertical divergence"),
        ("divsteps", "n:count", "beam", "steps of both divergences"),
        ("round_div", "", "beam", "trim the grid of directions to an ellipse (default)"),
        ("square_div", "", "beam", "keep the whole grid of directions"),
        ("sourcefile", "FILE:file", "beam", "X Y Z weight wavelength(metres), one source a line"),
        (
            "spectrum",
            "FILE|shape:word",
            "beam",
            "two columns or HDF5 (docs/spectra.md), or monochromatic, gaussian, tophat, pink, sase",
        ),
        ("bandwidth", "percent:number", "beam", "FWHM of that shape; of tophat the full width"),
        ("channels", "n:count", "beam", "wavelengths of that shape; default 50"),
        ("pink_tail", "percent:number", "beam", "1/e length of its tail to low energies; default the bandwidth"),
        ("pulse_fs", "fs:number", "beam", "FWHM of the pulse of sase, which sets how wide its spikes are"),
        ("second_colour", "percent:number share:number", "beam", "sase: a second line this far above, with this share"),
        ("self_seeded", "percent:number share:number", "beam", "sase: a line of this FWHM with this share"),
        ("centre_jitter", "percent:number", "beam", "sigma of the spectrum's centre, shot by shot"),
        ("energy_jitter", "percent:number", "beam", "sigma of the pulse's photons, shot by shot"),
        ("channel_jitter", "", "beam", "every channel of the spectrum at a random place within its width"),
        ("recentre", "", "beam", "move the spectra of -spectrum FILE: their mean energy to -lambda or -energy"),
        ("spectrum_unit", "eV|keV|A|nm|m:word", "beam", "of the first column of -spectrum FILE; default as it says"),
        ("spectrum_seed", "n:integer", "beam", "of what is drawn for -spectrum; default 1"),
        ("shot", "n:integer", "beam", "which shot of -spectrum; default 0; a series counts on from it"),
        ("polar", "K:number", "beam", "Kahn polarization factor, -1..1; default 0"),
        ("nopolar", "", "beam", "no polarization factor"),
        ("fluence", "per_m2:number", "beam", "photons per square metre; default 1.2593e29, which counts F^2"),
        (
            "flux",
            "per_s:number",
            "beam",
            "photons per second, with -exposure and -beamsize instead of -fluence",
        ),
        ("exposure", "s:number", "beam", "exposure time; default 1"),
        ("beamsize", "mm:number", "beam", "edge of the square beam; default 0.1; clips the crystal"),
        # --- detector
        ("distance", "mm:number", "detector", "crystal to detector along the beam; default 100"),
        ("close_distance", "mm:number", "detector", "crystal to the nearest point of the detector's plane"),
        ("detpixels", "n:integer", "detector", "pixels along both axes; default 1024"),
        ("detpixels_f detpixels_x", "n:integer", "detector", "pixels along the fast axis"),
        ("detpixels_s detpixels_y", "n:integer", "detector", "pixels along the slow axis"),
        ("detsize", "mm:number", "detector", "edge of the detector; default 102.4"),
        ("detsize_f", "mm:number", "detector", "size along the fast axis"),
        ("detsize_s", "mm:number", "detector", "size along the slow axis"),
        ("pixel", "mm:number", "detector", "pixel edge; default 0.1"),
        ("Xbeam", "mm:number", "detector", "direct beam x, in the convention's sense; default: the centre"),
        ("Ybeam", "mm:number", "detector", "direct beam y, in the convention's sense"),
        ("Xclose", "mm:number", "detector", "nearest point along fast; pivot sample"),
        ("Yclose", "mm:number", "detector", "nearest point along slow; pivot sample"),
        ("ORGX", "px:number", "detector", "XDS's origin along fast; pivot sample"),
        ("ORGY", "px:number", "detector", "XDS's origin along slow; pivot sample"),
        ("pivot", "beam|sample:word", "detector", "what the detector's rotations keep in place"),
        ("mosflm", "", "detector", "MOSFLM's axes and beam centre (default); pivot beam"),
        ("denzo", "", "detector", "DENZO's: MOSFLM's without the half pixel; pivot beam"),
        ("adxv", "", "detector", "ADXV's; pivot beam"),
        ("xds", "", "detector", "XDS's; pivot sample"),
        ("dials", "", "detector", "DIALS's; pivot sample"),
        ("detector_rotx", "deg:number", "detector", "rotation about lab x"),
        ("detector_roty", "deg:number", "detector", "rotation about lab y"),
        ("detector_rotz", "deg:number", "detector", "rotation about lab z"),
        ("twotheta", "deg:number", "detector", "swing about the two-theta axis, after the rotations"),
        ("twotheta_axis", _V, "detector", "axis of -twotheta"),
        ("fdet_vector", _V, "detector", "fast axis"),
        ("sdet_vector", _V, "detector", "slow axis"),
        ("odet_vector", _V, "detector", "normal, away from the crystal"),
        ("beam_vector", _V, "detector", "direction of the beam, downstream"),
        ("polar_vector", _V, "detector", "direction of the E-vector"),
        ("spindle_axis", _V, "detector", "axis of -phi, right-handed"),
        ("pix0_vector", _V, "detector", "outer corner of the first pixel, metres, lab frame"),
        ("pix0_vector_mm", _V, "detector", "the same in millimetres"),
        ("curved_det", "", "detector", "every pixel at -distance from the crystal"),
        ("point_pixel", "", "detector", "solid angle 1/R^2 only"),
        (
            "detector_abs detector_absorb detector_absorption",
            "um|inf:word",
            "detector",
            "attenuation depth of the sensor",
        ),
        ("detector_thick", "um:number", "detector", "thickness of the sensor; default 0: none"),
        ("detector_thicksteps thicksteps", "n:count", "detector", "layers of the sensor; default 2"),
        ("sensor", "material:word", "detector", "its material, for a depth at every wavelength: Si, CdTe, GaAs ..."),
        ("sensor_density", "g_per_cm3:number", "detector", "of that material; only of formulas needed: ZnS 4.09"),
        ("geom", "FILE:file", "detector", "CrystFEL geometry: panels, wavelength, bandwidth; axes of -adxv"),
        ("geom_data", "FILE:file", "detector", "HDF5 file with what the .geom names by a path, and its masks"),
        ("geom_event", "EVENT:word", "detector", "which frame of -geom_data: a number, or words//numbers"),
        ("geom_value", "PATH=NUMBER:word", "detector", "what stands at a path that the .geom names; may be repeated"),
        ("expt", "FILE:file", "detector", "DIALS experiments: panels, beam, goniometer, crystal; axes of -adxv"),
        ("expt_index", "n:count", "detector", "which experiment of -expt, from 0; default 0"),
        ("expt_image", "n:integer", "detector", "which image of its scan; default: the first"),
        ("img", "FILE:file", "detector", "geometry from an SMV header; pixels are not needed"),
        ("mask", "FILE:file", "detector", "SMV image whose zero pixels are skipped; its header counts too"),
        # --- sampling
        ("oversample", "n:count", "sampling", "sub-pixels along each pixel edge; default: from the crystal"),
        ("oversample_thick", "", "sampling", "sensor factor after every step, as a running product"),
        ("oversample_polar", "", "sampling", "polarization factor after every step"),
        ("oversample_omega", "", "sampling", "solid angle after every step"),
        (
            "roi",
            "xmin:integer xmax:integer ymin:integer ymax:integer",
            "sampling",
            "pixels to render, inclusive",
        ),
        ("dmin", "A:number", "sampling", "skip higher resolution than this; default 0: none; where -pdb ends"),
        ("interpolate", "", "sampling", "tricubic structure factors (default when any N <= 2)"),
        ("nointerpolate", "", "sampling", "nearest structure factor"),
        (
            "fidelity",
            "nanobragg|physical:word",
            "sampling",
            "render what nanoBragg renders, or the right formulas",
        ),
        ("precision", "auto|tile|float64:word", "sampling", "arithmetic of the kernels; default auto"),
        ("engine", "auto|pixels|spots:word", "sampling", "pixel by pixel or reflection by reflection; default auto"),
        ("cutoff", "photons:number", "sampling", "what no pixel may be off by for the sake of speed; default 0"),
        ("pixel_average", "", "sampling", "integrate spots over each pixel, however narrow they are"),
        # --- rotation
        ("phi", "deg:number", "rotation", "start of the sweep; default 0"),
        ("osc", "deg:number", "rotation", "range of the sweep"),
        ("phistep", "deg:number", "rotation", "step of the sweep"),
        ("phisteps", "n:count", "rotation", "steps of the sweep; default 2 with -osc"),
        # --- what takes photons away
        ("air", "mm|all:word", "transmission", "air from the crystal on, mm along the beam; all: to the pixel"),
        ("air_before", "mm:number", "transmission", "air that the beam goes through before the crystal"),
        ("gas", "name:word", "transmission", "instead of the air: helium, n2 ..."),
        ("window", "material:word um:number", "transmission", "a foil across the beam; once for each: kapton 25"),
        ("beam_window", "material:word um:number", "transmission", "the same before the crystal"),
        ("sample_sphere", "material:word mm:number", "transmission", "absorbs in a sphere of this diameter: water 0.2"),
        ("sample_plate", "material:word mm:number", "transmission", "absorbs in a plate across the beam"),
        ("beamstop", "diameter_mm:number distance_mm:number", "transmission", "a disc, as far from the crystal"),
        ("beamstop_shift", "fast_mm:number slow_mm:number", "transmission", "of its centre from the beam"),
        ("beamstop_stem", "width_mm:number deg:number", "transmission", "stem; 0 deg: along fast, 90: along slow"),
        ("beamstop_edge", "mm:number", "transmission", "width over which its edge fades; default 0"),
        ("beamstop_transmission", "part:number", "transmission", "that passes it; default 0"),
        ("shadow", "FILE:file", "transmission", "polygons: lines of x y z (mm, lab) or fast slow (pixels)"),
        ("shadow_turning", "FILE:file", "transmission", "polygons in the lab that turn with the spindle, at phi = 0"),
        # --- damage
        ("dose", "MGy:number", "damage", "dose by the middle of the frame; of a sweep, before its first; default 0"),
        ("dose_per_frame", "MGy:number", "damage", "that each frame of a sweep adds"),
        ("dose_photons", "per_um2_per_Gy:number", "damage", "photons/um^2 of a Gy: the same from the fluence; 2000"),
        ("damage_law", "linear|power:word", "damage", "half doses go with d, or with d^1.7; default linear"),
        ("half_dose", "MGy_per_A:number", "damage", "half dose over spacing, at 2 angstrom; default 10"),
        ("damage_exponent", "p:number", "damage", "half doses go with d^p"),
        ("cell_drift", "a:number b:number c:number", "damage", "percent that each edge of the cell grows by a MGy"),
        # --- output
        ("h5file o", "FILE:file", "output", "HDF5 frame: photons, experiment, statistics"),
        ("pngfile", "FILE:file", "output", "log-scaled picture"),
        ("floatfile floatimage", "FILE:file", "output", "raw float32 photons"),
        ("intfile intimage", "FILE:file", "output", "SMV image without noise"),
        ("noisefile noiseimage", "FILE:file", "output", "SMV image with photon noise"),
        ("pgmfile pgmimage", "FILE:file", "output", "PGM picture"),
        ("scale", "x:number", "output", "factor of -intfile; default 55000 / brightest pixel"),
        ("pgmscale", "x:number", "output", "factor of -pgmfile; default 50 / rmsd"),
        ("adc", "x:number", "output", "offset of the SMV images; default 40"),
        ("nonoise", "", "output", "no noise image among the default files"),
        ("nopgm", "", "output", "no PGM among the default files"),
        (
            "noise",
            "nanobragg|philox:word",
            "output",
            "generator of -noisefile; default nanobragg's own, bit for bit",
        ),
        ("printout", "", "output", "print pixel values"),
        ("printout_pixel", "fast:integer slow:integer", "output", "print one pixel's value and what led to it"),
        ("json", "", "output", "print the report as JSON"),
        # --- seeds
        ("seed", "n:integer", "seeds", "of the noise; default 1; negative: go on where the crystal's stopped"),
        ("mosaic_seed", "n:integer", "seeds", "of the mosaic domains; default 12345678"),
        ("misset_seed", "n:integer", "seeds", "of -misset random; default 1"),
        # --- running
        ("threads", "n:count", "running", "CPU threads; default: all"),
        ("backend", "auto|cpu|cuda:word", "running", "where to render; default auto"),
        (
            "max-memory",
            "bytes:word",
            "running",
            "refuse what needs more (4e9, 500M, 2G); default 80 % of what is free",
        ),
        ("progress", "", "running", "show progress (default on a terminal)"),
        ("noprogress", "", "running", "do not show progress"),
        ("version", "", "running", "print the version"),
        ("h help", "", "running", "print this help"),
    )
)

#: Flags that nanoBragg reads and never uses, with what to do instead.
REFUSED = {
    "-stol": "nanoBragg reads it and never uses it; bragg-numba background renders it, or Experiment(backgrounds=...)",
    "-4stol": "nanoBragg reads it and never uses it; bragg-numba background renders it, or Experiment(backgrounds=...)",
    "-Q": "nanoBragg reads it and never uses it; bragg-numba background renders it, or Experiment(backgrounds=...)",
    "-stolout": "nanoBragg accepts it and writes nothing",
    "-coherent": "nanoBragg ignores it: mosaic domains and sources add incoherently",
}

GROUPS = {
    "crystal": "Crystal",
    "beam": "Beam",
    "detector": "Detector",
    "sampling": "Sampling",
    "rotation": "Rotation",
    "transmission": "Transmission (docs/transmission.md)",
    "damage": "Radiation damage (docs/damage.md)",
    "output": "Output (none named: floatimage.bin, intimage.img, noiseimage.img, image.pgm)",
    "seeds": "Seeds",
    "running": "Running",
}

BY_NAME: dict[str, Flag] = {name: flag for flag in FLAGS for name in flag.names}


def usage() -> str:
    """The first lines of help, for someone who gave too little."""
    return (
        "usage: nanobragg-numba -hkl FILE -mat FILE [flags]\n"
        "       nanobragg-numba -cell a b c al be ga -default_F F -N n [flags]\n"
        "       nanobragg-numba -mtz FILE | -cif FILE | -pdb FILE -dmin A [flags]\n"
        "       nanobragg-numba --help    lists every flag\n"
    )


def help_text() -> str:
    """Every flag, grouped by subject, with units and defaults."""
    lines = [
        usage(),
        "X-ray diffraction of a nanocrystal, photons on every pixel; nanoBragg's own flags.",
        "A flag that is not understood is an error. docs/nanobragg.md tells what differs from the C program.",
    ]
    for group, title in GROUPS.items():
        lines += ["", f"{title}:"]
        for flag in FLAGS:
            if flag.group == group:
                takes = " ".join(name for name, _ in flag.values)
                head = f"  {', '.join(flag.names[:3])} {takes}".rstrip()
                lines.append(f"{head:<42} {flag.help}" if len(head) < 42 else f"{head}\n{'':<42} {flag.help}")
    return "\n".join(lines) + "\n"
