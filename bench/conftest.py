"""Let the benches import their neighbours by name."""

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

# It counts only if it is set before numba is imported.
os.environ.setdefault("NUMBA_NUM_THREADS", "2")
