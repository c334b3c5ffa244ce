"""Lets the tests import what stands beside them; by sys.path this folder's names would be everybody's."""

import importlib.util
import sys
from pathlib import Path

for name in ('tpu_cloud', 'tpu_scenarios'):
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f'{name}.py'))
    sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules[name])
