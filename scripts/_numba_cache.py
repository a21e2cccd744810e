"""Where compiled kernels are kept: one folder for each state of the kernels' sources.

Numba stamps a cached kernel with its own file only, so that an edit of ``physics.py`` would leave the kernels
that inline it as they were. A folder named by the digest of all sources cannot go stale.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

#: Folders of earlier states that are kept, so that going back and forth between two of them stays quick.
KEPT = 3


def cache_folder() -> Path:
    """Return the folder of the present sources; remove those of long-gone ones."""
    digest = hashlib.sha256()
    for source in sorted((ROOT / "kernels").rglob("*.py")):
        if source.name.startswith("cuda"):  # compiled for GPUs, which numba keeps elsewhere
            continue
        digest.update(source.relative_to(ROOT).as_posix().encode() + b"\0" + source.read_bytes() + b"\0")
    home = ROOT / ".cache" / "numba"
    folder = home / digest.hexdigest()[:32]
    folder.mkdir(parents=True, exist_ok=True)
    os.utime(folder)
    by_age = sorted((path for path in home.iterdir() if path.is_dir()), key=lambda path: path.stat().st_mtime)
    for old in by_age[:-KEPT]:
        shutil.rmtree(old, ignore_errors=True)
    return folder


if __name__ == "__main__":
    print(cache_folder())
