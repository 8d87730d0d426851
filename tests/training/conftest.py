"""Makes the reference networks of the spaces importable here, which import each other by their bare names."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "spaces"))
