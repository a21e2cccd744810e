"""The spots of the truth as peaks that other programs read: CXI for CrystFEL and its like, COCO for training."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np

from bragg_numba.errors import InputError
from bragg_numba.io.atomic import file_error
from bragg_numba.io.data_file import DATA
from bragg_numba.io.geom_layout import PEAKS
from bragg_numba.series.opened import Source

#: Where CXI has the frames.
_CXI_DATA = "/entry_1/data_1/data"

#: Side of the box about a spot whose pixels nobody knows, pixels.
BOX_PX = 5


def require_spots(source: Source, what: str) -> None:
    """Refuse a source without a table of spots; ``what`` is made of it."""
    if not source.has_spots:
        hint = "bragg-numba series writes it, unless told --no-spots"
        raise InputError(os.fspath(source.path), f"holds no table of spots, which {what} is made of", hint=hint)


def write_peaks(file, source: Source) -> None:
    """Write the spots of all frames into an NXmx file as CXI has them, and links by which CXI finds its frames.

    ``/entry_1/result_1`` holds ``nPeaks`` (frame), ``peakXPosRaw``, ``peakYPosRaw`` and ``peakTotalIntensity`` (frame,
    peak), brightest first; positions are fast and slow, 0 in the middle of the first pixel.
    """
    import h5py

    tables = []
    for index in range(len(source.series)):
        _, spots = source.truth(index)
        assert spots is not None
        order = np.argsort(-spots["photons"], kind="stable")
        tables.append(np.stack([spots["fast"] - 0.5, spots["slow"] - 0.5, spots["photons"]])[:, order])
    counts = np.array([table.shape[1] for table in tables], dtype=np.int64)
    whole = np.zeros((3, len(tables), max(1, int(counts.max()))), dtype=np.float32)
    for index, table in enumerate(tables):
        whole[:, index, : table.shape[1]] = table
    file["cxi_version"] = np.int64(160)
    file[f"{PEAKS}/nPeaks"] = counts
    for name, values in zip(("XPosRaw", "YPosRaw", "TotalIntensity"), whole, strict=True):
        file.create_dataset(f"{PEAKS}/peak{name}", data=values, compression="gzip", compression_opts=1)
    file[_CXI_DATA] = h5py.SoftLink(DATA)


def write_coco(source: Source, folder, *, least_photons: float = 0.0, progress=None) -> tuple[int, int]:
    """Write frames as pictures and their spots as COCO's detections; return how many of each there are.

    ``annotations.json`` lists ``images/000000.png`` and so on. A spot's box is that of its pixels where the file has
    label images, else 5 x 5 pixels about it, as far as its panel reaches. Besides what COCO asks for annotations say h,
    k, l, photons, resolution, panel and lattice. Counts are 16-bit PNG where they fit; larger ones, and photons, are
    TIFF.

    Raises
    ------
    InputError
        If the file holds no spots, or the folder exists already or cannot be written.
    """
    require_spots(source, "COCO")
    target = Path(folder)
    if os.path.lexists(target):
        raise InputError(os.fspath(folder), "exists already", hint="COCO gets a folder of its own")
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        part.mkdir()
        (part / "images").mkdir()
        said = _fill_folder(source, part, least_photons, progress)
        os.replace(part, target)
    except OSError as error:
        raise file_error(folder, error, "written") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return said


def _fill_folder(source: Source, folder: Path, least_photons: float, progress) -> tuple[int, int]:
    n_slow, n_fast = source.frames.shape[1:]
    panels = source.series.experiment.detector.panels
    images: list[dict] = []
    annotations: list[dict] = []
    for index in range(len(source.series)):
        name = f"images/{index:06d}{_write_image(folder / 'images', index, source.frame(index))}"
        images.append({"id": index, "file_name": name, "width": n_fast, "height": n_slow})
        _, spots = source.truth(index)
        assert spots is not None
        labels = source.labels(index, ("spot",))
        owned = {} if labels is None else _boxes_of(labels["spot"])
        for row in np.flatnonzero(spots["photons"] >= least_photons):
            spot = spots[row]
            rim = (0, 0, n_fast, n_slow)
            if panels:
                p = panels[int(spot["panel"])]
                rim = (p.first_column, p.first_row, p.first_column + p.n_fast, p.first_row + p.n_slow)
            found = owned.get(int(row)) or _box_about(float(spot["fast"]), float(spot["slow"]), rim)
            if found is None:
                continue
            (left, top, right, bottom), area = found
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": index,
                    "category_id": 1,
                    "bbox": [left, top, right - left, bottom - top],
                    "area": area,
                    "iscrowd": 0,
                    "hkl": [int(spot[axis]) for axis in "hkl"],
                    "center": [float(spot["fast"]), float(spot["slow"])],
                    "photons": float(spot["photons"]),
                    "resolution_A": float(spot["resolution_A"]) if np.isfinite(spot["resolution_A"]) else None,
                    "panel": int(spot["panel"]),
                    "lattice": int(spot["lattice"]),
                }
            )
        if progress is not None:
            progress((index + 1) / len(source.series))
    text = {
        "info": {"description": f"{source.path.name}: Bragg spots", "version": "1.0"},
        "licenses": [],
        "images": images,
        "annotations": annotations,
        "categories": [{"id": 1, "name": "bragg", "supercategory": "spot"}],
    }
    (folder / "annotations.json").write_text(json.dumps(text), encoding="utf-8")
    return len(images), len(annotations)


def _write_image(folder: Path, index: int, frame: np.ndarray) -> str:
    """Write a frame so that its values stay what they are; return how its name ends."""
    from PIL import Image

    if frame.dtype.kind == "u" and int(frame.max()) < 2**16:
        Image.fromarray(frame.astype(np.uint16)).save(folder / f"{index:06d}.png")
        return ".png"
    kind = np.int32 if frame.dtype.kind == "u" else np.float32
    Image.fromarray(frame.astype(kind)).save(folder / f"{index:06d}.tif")
    return ".tif"


def _boxes_of(labels: np.ndarray) -> dict[int, tuple[tuple[int, int, int, int], int]]:
    """Box (left, top, right, bottom) and number of the pixels of each spot."""
    from scipy.ndimage import find_objects

    areas = np.bincount(labels.ravel() + 1)
    found = {}
    for number, box in enumerate(find_objects(labels + 1)):
        if box is not None:
            rows, columns = box
            found[number] = (columns.start, rows.start, columns.stop, rows.stop), int(areas[number + 1])
    return found


def _box_about(fast: float, slow: float, rim) -> tuple[tuple[int, int, int, int], int] | None:
    """The box of ``BOX_PX`` pixels a side about the pixel of a spot, within its panel; None where it lies beside it."""
    left, top = int(np.floor(fast)) - BOX_PX // 2, int(np.floor(slow)) - BOX_PX // 2
    box = max(left, rim[0]), max(top, rim[1]), min(left + BOX_PX, rim[2]), min(top + BOX_PX, rim[3])
    width, height = box[2] - box[0], box[3] - box[1]
    return (box, width * height) if width > 0 and height > 0 else None
