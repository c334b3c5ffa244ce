"""Lets the tests of the engine import `drawing` from beside them (importlib mode leaves sys.path alone)."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
