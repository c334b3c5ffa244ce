import dataclasses
import functools
import hashlib
import http.server
import json
import shutil
import threading

import pytest

from cosample_jax import config as config_lib
from cosample_jax.errors import UserError
from cosample_jax.grading import equivalence
from cosample_jax.tasks import svamp


@pytest.fixture(autouse=True)
def tfds_home(tmp_path_factory, monkeypatch):
    monkeypatch.setenv('TFDS_DATA_DIR', str(tmp_path_factory.mktemp('tfds')))


@pytest.fixture(scope='module')
def official(shared_data):
    """The bytes of SVAMP.json: the rows of a copy, written as the official file is."""
    lines = (shared_data / 'svamp_test.jsonl').read_text(encoding='utf-8').splitlines()
    rows = sorted((json.loads(line) for line in lines), key=lambda row: int(row['ID'].removeprefix('chal-')))
    names = ('ID', 'Body', 'Question', 'Equation', 'Answer', 'Type')
    return json.dumps([{name: row[name] for name in names} for row in rows], indent=4).encode()


def test_the_published_checksum_is_that_of_the_rows_we_know(official):
    assert hashlib.sha256(official).hexdigest() == svamp.SOURCE.sha256
    assert len(official) == svamp.SOURCE.num_bytes


def test_gsm8k_is_trained_on_and_svamp_is_the_test(shared_data, repository):
    config = config_lib.load(f'{repository}/configs/svamp.py:manual_dir={shared_data}')
    splits = svamp.build(config)
    assert {name: len(problems) for name, problems in splits.items()} == {
        'train': 6_973, 'validation': 500, 'test': 1_000,
    }  # fmt: skip
    assert splits.notes[0].startswith('contaminated: 0 of 6,973 training problems left out')
    problem = next(p for p in splits['test'] if p.id == 'test/chal-777')
    assert problem.question.endswith('organized into 93 groups. How big is each group of bananas?')
    assert (problem.answer, problem.solution) == ('145', '290 / 2 = 145.\nThe answer is 145.')
    assert (problem.subject, problem.level) == ('Common-Division', 0)
    pairs = {p.id: (p.answer, p.solution) for p in splits['test']}
    assert all(verdict.correct for verdict in equivalence.grade_many(svamp, pairs).values())


def test_the_official_file_its_copy_and_the_download_are_the_same(tmp_path, shared_data, official, monkeypatch):
    copy = svamp.load(str(shared_data))
    (tmp_path / 'SVAMP.json').write_bytes(official)
    monkeypatch.setenv('TFDS_DATA_DIR', str(tmp_path / 'local'))
    assert svamp.load(str(tmp_path)) == copy

    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=tmp_path)
    monkeypatch.setattr(http.server.SimpleHTTPRequestHandler, 'log_message', lambda *args: None)
    server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f'http://127.0.0.1:{server.server_port}/SVAMP.json'
    monkeypatch.setattr(svamp, 'SOURCE', dataclasses.replace(svamp.SOURCE, url=url))
    monkeypatch.setenv('TFDS_DATA_DIR', str(tmp_path / 'downloaded'))
    try:
        assert svamp.load() == copy
    finally:
        server.shutdown()


def test_other_files_are_refused(tmp_path, official, shared_data):
    with pytest.raises(UserError, match=r'SVAMP.json is not there: fetch https://.*/SVAMP.json into .*manual_dir'):
        svamp.find_files(str(tmp_path))
    path = tmp_path / 'SVAMP.json'
    for spoiled, message in (
        (official[:-2], 'does not hold problems of SVAMP'),
        (json.dumps(json.loads(official)[1:]).encode(), 'has 999 problems, SVAMP has 1000'),
        (official.replace(b'76 dollars', b'77 dollars'), 'does not hold the official SVAMP rows'),
    ):
        path.write_bytes(spoiled)
        with pytest.raises(UserError, match=message) as error:
            svamp.find_files(str(tmp_path))
        assert '\n' not in str(error.value)
    path.write_bytes(official)
    with pytest.raises(UserError, match='GSM8K: .*train.jsonl is not there'):
        svamp.find_files(str(tmp_path))
    for split in ('train', 'test'):
        shutil.copy(shared_data / f'gsm8k_{split}.jsonl', tmp_path)
    assert set(svamp.find_files(str(tmp_path))) == {'svamp', 'train', 'test'}
