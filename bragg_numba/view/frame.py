"""One frame as a notebook shows it."""

from __future__ import annotations

import base64
import html
import io
import os

import numpy as np

from bragg_numba.errors import InputError
from bragg_numba.experiment import Experiment, faces
from bragg_numba.experiment.placing import place_detector
from bragg_numba.series.mcstas import mcstas_geometry
from bragg_numba.view.picture import picture
from bragg_numba.view.sight import Sight

#: Of the picture in a notebook: its longest side, its colours, and spots that are marked, the brightest.
_SIDE, _COLOURS, _SPOTS = 480, 96, 300


class Frame:
    """An image with the experiment that it is of: a picture and a table in notebooks.

    Parameters
    ----------
    image
        (slow, fast) real numbers: photons, counts, or what else the pixels of the detector hold.
    experiment
        Whose detector and beam it was.
    spots
        A table of spots that are marked, as ``Simulator.spot_table()`` returns it; None: none.
    title
        What stands above it.

    Raises
    ------
    InputError
        If the image is not one of this detector.

    Examples
    --------
    >>> import numpy as np
    >>> experiment = Experiment.from_nanobragg("-cell 100 -default_F 100 -N 5 -detpixels 64")
    >>> Frame(np.ones((64, 64), dtype=np.float32), experiment)
    <Frame: 64 x 64 pixels (fast x slow), float32, sum 4096, max 1>
    """

    def __init__(self, image, experiment: Experiment, *, spots: np.ndarray | None = None, title: str = "Frame") -> None:
        if not isinstance(experiment, Experiment):
            raise InputError("Frame.experiment", "must be an Experiment", type(experiment).__name__)
        self.image = np.asarray(image)
        if self.image.dtype.kind not in "iufb" or self.image.shape != experiment.detector.shape:
            n_slow, n_fast = experiment.detector.shape
            rule = f"must be real numbers, {n_slow} x {n_fast} (slow x fast) as the detector has them"
            raise InputError("Frame.image", rule, f"{self.image.dtype} {self.image.shape}")
        if spots is not None and not {"fast", "slow"} <= set(getattr(spots, "dtype", np.dtype(int)).names or ()):
            raise InputError("Frame.spots", "must be a table with fast and slow", type(spots).__name__)
        self.experiment, self.spots, self.title = experiment, spots, str(title)

    @classmethod
    def load(cls, path, index: int = 0, *, spots: bool = False) -> Frame:
        """Read a frame of a master or frame file that this package wrote; ``spots``: with those of the file's truth."""
        from bragg_numba import checks as check
        from bragg_numba.series.source import open_source

        with open_source(path) as source:
            index = check.whole_number("index", index, 0, len(source.series) - 1)
            table = source.truth(index)[1] if spots else None
            experiment = source.series.experiment_of(index)
            title = f"{os.path.basename(os.fspath(path))}, frame {index}"
            return cls(source.frame(index), experiment, spots=table, title=title)

    def picture(self, side: int = 1024, *, rings: bool = True, most_spots: int | None = None):
        """Draw it; return a PIL image, fast to the right and slow downwards, its longest side at most ``side``.

        ``most_spots`` are marked, the brightest; None: all.
        """
        from bragg_numba.plan.plan import make_plan
        from bragg_numba.series.truth import mean_wavelength

        sight = None
        if rings:
            geometry = mcstas_geometry(self.experiment, place_detector(self.experiment))
            sight = Sight(geometry, mean_wavelength(make_plan(self.experiment)))
        spots = self.spots
        if spots is not None and most_spots is not None and "photons" in (spots.dtype.names or ()):
            spots = spots[np.argsort(-spots["photons"])[:most_spots]]
        return picture(self.image, side=side, sight=sight, spots=spots)

    def __repr__(self) -> str:
        total, most = self._sums()
        return f"<{self.title}: {self._extent()}, sum {total:g}, max {most:g}>"

    def _repr_html_(self) -> str:
        data = io.BytesIO()
        self.picture(_SIDE, most_spots=_SPOTS).quantize(_COLOURS).save(data, "PNG", optimize=True)
        text = base64.b64encode(data.getvalue()).decode("ascii")
        name = html.escape(self.title, quote=True)
        image = f'<img alt="{name}" src="data:image/png;base64,{text}" style="background:#000">'
        table = faces.html_table(self.title, [("", [("pixels", self._extent()), *self._facts()])])
        return faces.beside(image, table)

    def _extent(self) -> str:
        n_slow, n_fast = self.image.shape
        return f"{n_fast} x {n_slow} pixels (fast x slow), {self.image.dtype}"

    def _facts(self) -> list[tuple[str, object]]:
        total, most = self._sums()
        found: list[tuple[str, object]] = [("sum", total), ("max", most)]
        if self.image.dtype.kind != "f":  # the unit of those fields is photons
            found = [("sum", f"{total:.9g} counts"), ("max", f"{most:.9g} counts")]
        if self.spots is not None:
            found.append(("spots", len(self.spots)))
        return found

    def _sums(self) -> tuple[float, float]:
        """Sum and brightest of the pixels that are numbers."""
        good = self.image[np.isfinite(self.image)] if self.image.dtype.kind == "f" else self.image
        return float(good.sum(dtype=np.float64)), float(good.max()) if good.size else 0.0
