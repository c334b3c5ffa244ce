"""Lets the comparisons with other implementations import `parity`, which lies beside the tests of the models."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / 'gemma'))
