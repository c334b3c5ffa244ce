"""The whole pipeline on the real GSM8K: real text, answers and lengths pass through every stage."""

import json
import subprocess
import sys

import pytest

from cosample_jax.stages import STAGES
from cosample_jax.workdir import Workdir


@pytest.mark.slow
def test_real_problems_pass_through_every_stage(tmp_path, repository, shared_data, monkeypatch):
    monkeypatch.setenv('TFDS_DATA_DIR', str(tmp_path / 'tfds'))
    config = f'--config=configs/gsm8k_tiny.py:manual_dir={shared_data}'
    command = [sys.executable, '-m', 'cosample_jax.cli', 'run', config, f'--workdir={tmp_path}/run']
    subprocess.run(command, cwd=repository, check=True)
    workdir = Workdir(tmp_path / 'run')
    assert all(workdir.is_done(stage) for stage in STAGES)
    assert {split: len(workdir.problems(split)) for split in ('shots', 'train', 'validation', 'test')} == {
        'shots': 2, 'train': 200, 'validation': 50, 'test': 100
    }  # fmt: skip
    assert {m: len(workdir.grades('train', m)) for m in ('weak', 'strong')} == {'weak': 200 * 12, 'strong': 200 * 4}
    cells = json.loads(workdir.path('evaluate', 'results.json').read_text())['cells']
    gold = next(cell for cell in cells if cell['data'] == 'gold')
    assert gold['trained'] and gold['kept'] == 200
    for cell in cells:
        assert cell['data'] == 'base' or cell['trained'] or cell['reason'] == '0 survivors, not trained'
