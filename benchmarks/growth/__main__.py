"""`python benchmarks/growth` measures the package of this checkout."""

import os
import sys
from pathlib import Path

os.environ["KERAS_BACKEND"] = "torch"  # counts without memory

# In place of this folder, which Python puts there: what is imported is in the
# two above it.
sys.path[:1] = map(str, Path(__file__).resolve().parents[1:3])

from growth.command import main  # noqa: E402

main()
