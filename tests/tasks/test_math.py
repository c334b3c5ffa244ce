import dataclasses
import functools
import http.server
import io
import json
import re
import shutil
import sys
import tarfile
import threading

import pytest

from cosample_jax import config as config_lib
from cosample_jax import config_schema, overlap, tasks
from cosample_jax.errors import UserError
from cosample_jax.grading import answers
from cosample_jax.tasks import math, math_files, prompts


@pytest.fixture(scope='module')
def prepared(tmp_path_factory):
    """Where TFDS keeps what it has prepared, shared by the tests of this file."""
    return tmp_path_factory.mktemp('tfds')


@pytest.fixture(autouse=True)
def tfds_home(prepared, monkeypatch):
    monkeypatch.setenv('TFDS_DATA_DIR', str(prepared))


@pytest.fixture(scope='module')
def rows(shared_data):
    """The rows of each split and snapshot as JSON."""
    names = {'train': 'math_train', 'test': 'math_test', 'math500': 'math500'}
    names |= {snapshot: f'math_fn_{snapshot}' for snapshot in math_files.SNAPSHOTS}

    def read(name):
        return [json.loads(line) for line in (shared_data / f'{name}.jsonl').read_text(encoding='utf-8').splitlines()]

    return {split: read(name) for split, name in names.items()}


def make_config(repository, shared_data, **fields):
    config = config_lib.load(f'{repository}/configs/math.py:manual_dir={shared_data}')
    for name, value in fields.items():
        config.task[name] = value
    return config


@pytest.fixture(scope='module')
def splits(repository, shared_data, prepared):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('TFDS_DATA_DIR', str(prepared))
        return tasks.build(make_config(repository, shared_data, num_train=7_411))


def test_the_splits_are_those_of_the_papers_and_disjoint(splits):
    sizes = {'train': 7_411, 'validation': 500, 'test': 500, 'static': 1_745, 'functional': 1_745, 'shots': 4}
    assert {name: len(problems) for name, problems in splits.items()} == sizes
    ids = {name: {problem.id for problem in problems} for name, problems in splits.items()}
    assert len(ids['test'] & ids['static']) == 181, 'MATH500 has variants, too'
    assert not ids['validation'] & (ids['test'] | ids['static']), 'no test problem and no twin chose a checkpoint'
    assert not ids['train'] & ids['shots'] and len(ids['train'] | ids['shots']) == 7_500 - 2 - 83
    assert all(problem_id.startswith('train/') for problem_id in ids['train'] | ids['shots'])
    assert splits.notes == (
        'no answer: 2 of 7,500 training problems left out',
        'contaminated: 83 of 7,498 training problems left out, as copies of one of 3,809 test problems',
    )
    assert not {'train/number_theory/7115', 'train/number_theory/7117'} & ids['train']
    assert 'tensorflow' not in sys.modules


def test_math500_is_that_of_prm800k(splits, rows):
    assert {f'{problem.id}.json' for problem in splits['test']} == {row['id'] for row in rows['math500']}
    golds = {row['id'].removesuffix('.json'): row['answer'] for row in rows['math500']}
    assert all(problem.answer == golds[problem.id] for problem in splits['test'])


def test_every_variant_names_its_twin(splits, rows):
    static = {problem.id: problem for problem in splits['static']}
    for problem in splits['functional']:
        twin = static[json.loads(problem.meta)['static']]
        assert problem.id == twin.id.replace('test/', 'dec2023/') and problem.question != twin.question
        assert (problem.subject, problem.level) == (twin.subject, twin.level) and problem.answer
    assert {f'{problem.id}.json' for problem in splits['static']} == {row['id'] for row in rows['dec2023']}


def test_a_problem(splits):
    shot = splits['shots'][0]
    assert (shot.id, shot.subject, shot.level, shot.answer) == ('train/algebra/2722', 'Algebra', 2, '600')
    assert shot.solution.endswith(r'= 50 \cdot 12 = \boxed{600}$.')
    by_id = {problem.id: problem for problem in splits['train']}
    assert by_id['train/geometry/377'].level == 0, 'Level ?'
    assert by_id['train/algebra/24014'].answer == '2', r'\boxed 2'


def test_solutions_announce_their_answer_and_none_ends_early(splits):
    for problem in splits['train'] + splits['test']:
        assert prompts.before_stop(prompts.target(problem.solution)) == prompts.target(problem.solution), problem.id
        if r'\boxed ' not in problem.solution:
            assert answers.extract(problem.solution, math.MARKERS[:1]) == (problem.answer, '\\boxed'), problem.id


def test_shots_are_no_copies_of_test_problems(splits):
    copies = overlap.Copies(splits['test'] + splits['static'] + splits['functional'])
    assert [copies.original(shot) for shot in splits['shots']] == [None] * 4


def test_sizes_nest_and_snapshots_are_asked_about_the_same_problems(splits, repository, shared_data):
    fields = {'num_train': 100, 'num_validation': 50, 'num_test': 50, 'num_functional': 30}
    config = make_config(repository, shared_data, **fields, snapshots=('dec2023', 'oct2023'))
    small = math.build(config)
    for name in ('validation', 'test', 'static'):
        assert small[name] == splits[name][: len(small[name])]
    twins = [problem.id.partition('/')[2] for problem in small['static']]
    assert [p.id for p in small['functional']] == [f'{s}/{twin}' for s in ('dec2023', 'oct2023') for twin in twins]
    config.task.num_functional, config.seed = 0, 1
    other = math.build(config)
    assert 'static' not in other and other['validation'] != small['validation']


@pytest.mark.parametrize(
    ('fields', 'message'),
    [
        ({'num_train': 7_420}, 'num_train is 7420: MATH has 74.. train problems here'),
        ({'shots': ('test/algebra/1',)}, "has 'test/algebra/1': shots are training problems, train/algebra/0 to"),
    ],
)
def test_what_cannot_be_built(repository, shared_data, fields, message):
    with pytest.raises(UserError, match=message):
        math.build(make_config(repository, shared_data, num_functional=0, **fields))


def test_splits_that_a_task_does_not_have(repository):
    config = config_lib.load(f'{repository}/configs/arithmetic.py:size=smoke')
    config.evaluate.splits = ('test', 'static')
    with pytest.raises(UserError, match="has 'static', and arithmetic has no such problems: it has test, functional"):
        tasks.build(config)


# ---------------------------------------------------------------------------------------------------------------------
# The forms in which people have MATH.


def as_tree(directory, rows):
    for row in rows['train'] + rows['test']:
        path = directory / row['id']
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({name: row[name] for name in ('problem', 'level', 'type', 'solution')}))


def as_parquet(directory, rows, by_subject):
    """Mirrors know no ids; theirs are sorted in some way of their own."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    for split in ('train', 'test'):
        told = [{name: row[name] for name in ('problem', 'level', 'solution', 'type')} for row in rows[split]]
        told.sort(key=lambda row: row['solution'])
        parts = {'data': told}
        if by_subject:
            parts = {name: [row for row in told if row['type'] == name] for name in {row['type'] for row in told}}
        for name, part in parts.items():
            path = directory / name / f'{split}-00000-of-00001.parquet'
            path.parent.mkdir(parents=True, exist_ok=True)
            pq.write_table(pa.Table.from_pylist(part), path)


def as_lines(directory, rows):
    for split in ('train', 'test'):
        without = [{name: row[name] for name in ('type', 'problem', 'level', 'solution')} for row in rows[split]]
        (directory / f'{split}.jsonl').write_text(''.join(json.dumps(row) + '\n' for row in reversed(without)))


@pytest.fixture(scope='module')
def expected(shared_data):
    return {split: math_files.read_math(str(shared_data), split) for split in ('train', 'test')}


@pytest.mark.parametrize('form', ['tree', 'bare tree', 'parquet', 'parquet by subject', 'lines'])
def test_every_form_gives_the_same_problems(form, tmp_path, rows, expected):
    if 'tree' in form:
        as_tree(tmp_path / 'MATH' if form == 'tree' else tmp_path, rows)
    elif 'parquet' in form:
        as_parquet(tmp_path, rows, 'subject' in form)
    else:
        as_lines(tmp_path, rows)
    for split, wanted in expected.items():
        found = math_files.read_math(str(tmp_path), split)
        assert [row['id'] for row in found] == [row['id'] for row in wanted]
        # Without ids two pairs of problems that are one but for spaces may have each other's.
        others = [row['id'] for row, other in zip(found, wanted, strict=True) if row != other]
        assert set(others) <= {'train/algebra/24377', 'train/algebra/2463', 'train/algebra/27', 'train/algebra/2794'}
        assert 'tree' not in form or not others


def test_the_index_is_made_of_the_problems(rows, repository):
    """`data/math_index.txt` is this, and nothing else."""
    math500, functional = ({row['id'] for row in rows[name]} for name in ('math500', 'dec2023'))
    subjects = {}
    for split in ('train', 'test'):
        for row in rows[split]:
            subject, _, number = row['id'].removesuffix('.json').rpartition('/')
            marks = '*' * (row['id'] in math500) + '+' * (row['id'] in functional)
            entry = int(number), f'{number}:{math_files.fingerprint(row["problem"])}{marks}'
            subjects.setdefault((split == 'test', subject), []).append(entry)
    lines = [f'{key[1]} {" ".join(text for _, text in sorted(subjects[key]))}\n' for key in sorted(subjects)]
    assert (repository / 'cosample_jax' / 'data' / 'math_index.txt').read_text() == ''.join(lines)
    assert tuple(math_files.SNAPSHOTS) == config_schema.SNAPSHOTS


def test_another_edition_of_a_row_is_still_it(tmp_path, rows, expected):
    as_lines(tmp_path, rows | {'test': [row | {'problem': row['problem'] + '!!!'} for row in rows['test'][:1]]
                               + rows['test'][1:]})  # fmt: skip
    found = math_files.read_math(str(tmp_path), 'test')
    assert [row['id'] for row in found] == [row['id'] for row in expected['test']]
    assert found[0]['problem'] == expected['test'][0]['problem'] + '!!!'


@pytest.mark.parametrize(
    ('spoil', 'message'),
    [
        (lambda rows: rows[:-1], r'train.jsonl has 7,499 problems, MATH has 7,500 for train: MATH.s own download was'),
        (lambda rows: rows[:-2] + rows[:1] * 2, 'holds 2 train problems that are not those of MATH: '),
        (lambda rows: [r | {'problem': r['problem'] + '!'} for r in rows], 'holds 7,500 train problems that are not'),
        (lambda rows: [{'problem': r['problem']} for r in rows], "line 1 has no field 'level'"),
    ],
)
def test_what_is_not_math_is_refused(spoil, message, tmp_path, rows):
    as_lines(tmp_path, {'train': [{k: v for k, v in row.items() if k != 'id'} for row in rows['train']], 'test': []})
    path = tmp_path / 'train.jsonl'
    told = [json.loads(line) for line in path.read_text().splitlines()]
    path.write_text(''.join(json.dumps(row) + '\n' for row in spoil(told)))
    with pytest.raises(UserError, match=message) as error:
        math_files.read_math(str(tmp_path), 'train')
    assert '\n' not in str(error.value)


def test_nothing_there_names_what_to_fetch(tmp_path, monkeypatch):
    monkeypatch.setenv('TFDS_DATA_DIR', str(tmp_path / 'tfds'))
    what = '.*MATH/train/algebra/0.json .* set config.task.manual_dir to that directory$'
    for directory, message in ((str(tmp_path), 'has no train problems of MATH: '), ('', 'manual_dir is empty: ')):
        with pytest.raises(UserError, match=message + what) as error:
            math.load(directory)
        assert '\n' not in str(error.value)
    (tmp_path / 'train-00000.parquet').write_bytes(b'PAR1 nothing')
    with pytest.raises(UserError, match='train-00000.parquet cannot be read'):
        math.find_files(str(tmp_path))
    (tmp_path / 'train' / 'algebra').mkdir(parents=True)
    (tmp_path / 'train' / 'algebra' / '0.json').write_text('{"problem": ')
    with pytest.raises(UserError, match='algebra/0.json is no problem of MATH'):
        math.find_files(str(tmp_path))


# ---------------------------------------------------------------------------------------------------------------------
# Snapshots of Functional MATH.


def archive_of(rows):
    """A tar.gz with the layout of the published ones."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode='w:gz') as archive:
        for row in rows:
            data = json.dumps({name: text for name, text in row.items() if name != 'id'}).encode()
            member = tarfile.TarInfo(f'Dec-2023/{row["id"]}')
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


@pytest.fixture(scope='module')
def archive(rows):
    return archive_of(rows['dec2023'])


def test_every_form_of_a_snapshot_is_the_same(tmp_path, shared_data, archive):
    wanted = math_files.read_snapshot(shared_data / 'math_fn_dec2023.jsonl', 'dec2023')
    assert math_files.find_snapshot(str(tmp_path), 'dec2023') is None
    (tmp_path / 'Dec-2023.tar.gz').write_bytes(archive)
    assert math_files.read_snapshot(math_files.find_snapshot(str(tmp_path), 'dec2023'), 'dec2023') == wanted
    shutil.unpack_archive(tmp_path / 'Dec-2023.tar.gz', tmp_path)
    path = math_files.find_snapshot(str(tmp_path), 'dec2023')
    assert path == tmp_path / 'Dec-2023' and math_files.read_snapshot(path, 'dec2023') == wanted


def test_another_snapshot_or_half_of_one_is_refused(tmp_path, shared_data, rows, archive):
    with pytest.raises(
        UserError, match=r'does not hold the published problems of nov2023: fetch http.*Nov-2023.tar.gz'
    ):
        math_files.read_snapshot(shared_data / 'math_fn_dec2023.jsonl', 'nov2023')
    path = tmp_path / 'Dec-2023.tar.gz'
    path.write_bytes(archive_of(rows['dec2023'][:-1]))
    with pytest.raises(UserError, match='has 1,744 problems, not the 1,745 of dec2023'):
        math_files.read_snapshot(path, 'dec2023')
    path.write_bytes(archive[: len(archive) // 2])
    with pytest.raises(UserError, match='is no whole tar archive'):
        math_files.read_snapshot(path, 'dec2023')


def test_a_snapshot_that_is_not_there_is_downloaded(tmp_path, monkeypatch, archive, shared_data):
    monkeypatch.setenv('TFDS_DATA_DIR', str(tmp_path / 'tfds'))
    source = math_files.SNAPSHOTS['dec2023']
    refused = dataclasses.replace(source, url='http://127.0.0.1:9/Dec-2023.tar.gz')
    monkeypatch.setitem(math_files.SNAPSHOTS, 'dec2023', refused)
    with pytest.raises(UserError, match='dec2023 cannot be downloaded .*refused.*: fetch .* into a directory and set'):
        math.load_snapshot('', 'dec2023')

    (tmp_path / 'Dec-2023.tar.gz').write_bytes(archive)
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=tmp_path)
    monkeypatch.setattr(http.server.SimpleHTTPRequestHandler, 'log_message', lambda *args: None)
    server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f'http://127.0.0.1:{server.server_port}/Dec-2023.tar.gz'
    monkeypatch.setitem(math_files.SNAPSHOTS, 'dec2023', dataclasses.replace(source, url=url))
    try:
        downloaded = math.load_snapshot('', 'dec2023')
    finally:
        server.shutdown()
    local = math_files.read_snapshot(shared_data / 'math_fn_dec2023.jsonl', 'dec2023')
    assert list(downloaded) == [row['id'] for row in local]


def test_documents_show_no_test_problem(splits, repository, shared_data):
    config = make_config(repository, shared_data, num_train=7_411)
    turns = [turn for _, document in zip(range(50), math.documents(config), strict=False) for turn in document]
    known = {prompts.zero_shot(problem.question) for problem in splits['train'] + splits['shots']}
    assert {prompt for prompt, _ in turns} <= known
    assert not any(re.search(r'\n\s*\n', target.removesuffix(prompts.STOP)) for _, target in turns)
