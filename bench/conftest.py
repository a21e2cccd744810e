"""Let the benches import their neighbours by name, and share the tests' kernel cache."""

import importlib.util
import os
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

# Both count only if they are set before numba is imported.
_spec = importlib.util.spec_from_file_location("_numba_cache", HERE.parent / "scripts" / "_numba_cache.py")
_module = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_module)
os.environ["NUMBA_CACHE_DIR"] = str(_module.cache_folder())
os.environ.setdefault("NUMBA_NUM_THREADS", "2")
