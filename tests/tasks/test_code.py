"""MBPP and HumanEval from their files: splits, questions, tests. The rows are made up, in the official forms."""

import dataclasses
import functools
import gzip
import hashlib
import http.server
import itertools
import json
import threading

import pytest

from cosample_jax import config as config_lib
from cosample_jax import embedded, jsonl, tasks
from cosample_jax.errors import UserError
from cosample_jax.grading import equivalence
from cosample_jax.sampling import asking
from cosample_jax.tasks import code, prompts


def mbpp_row(number):
    row = {
        'text': f'Write a function to add {number}. ',
        'code': f'def add_{number}(x): \r\n\treturn x + {number}  \r\n',
        'task_id': number,
        'test_setup_code': '',
        'test_list': [f'assert add_{number}({x}) == {x + number} ' for x in (1, 2, 3)],
        'challenge_test_list': [f'assert add_{number}(0) == -1'],
    }
    if number == 2:  # a class of the solution's own, an object of it made before the tests
        row['code'] = 'class Node:\r\n    value = 2\r\n\r\n\r\ndef get(node):\r\n    return node.value'
        row |= {'test_setup_code': 'node = Node()', 'test_list': ['assert get(node) == 2']}
    return row


def humaneval_row(number):
    before = (
        'from typing import List\n\n\ndef helper(x):\n    """ Help. """\n    return x\n\n\n' if number % 2 else '\n\n'
    )
    kind = 'List[int]' if number % 2 else 'list'
    return {
        'task_id': f'HumanEval/{number}',
        'prompt': f'{before}def times_{number}(values: {kind}):\n    """ Multiply each by {number}.\n    """\n',
        'entry_point': f'times_{number}',
        'canonical_solution': f'    values = list(values)\n\n    return [x * {number} for x in values]\n',
        'test': f"\n\nMETADATA = {{'author': 'x'}}\n\n\ndef check(candidate):\n"
        f'    assert candidate([1, 2]) == [{number}, {2 * number}]\n'
        f'{f"    assert helper({number}) == {number}" if number % 2 else ""}\n',
    }


ROWS = {'mbpp': [mbpp_row(n) for n in range(1, 975)], 'humaneval': [humaneval_row(n) for n in range(164)]}


def written(rows):
    return ''.join(json.dumps(row) + '\n' for row in rows).encode()


@pytest.fixture(scope='module')
def files(tmp_path_factory):
    directory = tmp_path_factory.mktemp('code')
    (directory / 'mbpp.jsonl').write_bytes(written(ROWS['mbpp']))
    (directory / 'HumanEval.jsonl.gz').write_bytes(gzip.compress(written(ROWS['humaneval'])))
    return directory


def make_config(files, **fields):
    config = config_lib.base()
    config.task.name, config.task.manual_dir = 'code', str(files)
    config.task.num_train, config.task.num_validation, config.task.num_test = 374, 90, 164
    config.task.shots = ('shots/2', 'shots/4')
    for name, value in fields.items():
        config.task[name] = value
    return config


def test_splits_are_the_official_ones(files):
    splits = code.build(make_config(files))
    assert {name: len(problems) for name, problems in splits.items()} == {
        'train': 374, 'validation': 90, 'test': 164, 'shots': 2,
    }  # fmt: skip
    numbers = {name: {int(p.id.partition('/')[2]) for p in problems} for name, problems in splits.items()}
    assert numbers == {
        'train': set(range(601, 975)), 'validation': set(range(511, 601)), 'test': set(range(164)), 'shots': {2, 4},
    }  # fmt: skip
    assert all(p.id.startswith(f'{name}/') for name, problems in splits.items() for p in problems)
    assert [p.id for p in splits['shots']] == ['shots/2', 'shots/4']
    small = code.build(make_config(files, num_train=20, num_test=9))
    assert small['train'] == splits['train'][:20] and small['test'] == splits['test'][:9]


def test_problems(files):
    problems = {p.id: p for p in itertools.chain.from_iterable(code.load(str(files)).values())}
    mbpp = problems['train/700']
    assert mbpp.question == ('Write a function to add 700.\nYour code should pass this test:\nassert add_700(1) == 701')
    assert mbpp.solution == 'def add_700(x):\n\treturn x + 700'
    assert mbpp.answer.count('assert') == 3 and '-1' not in mbpp.answer
    plain, helped = problems['test/2'], problems['test/3']
    assert plain.question == (
        'Complete this function and write all of it:\ndef times_2(values: list):\n    """ Multiply each by 2.\n    """'
    )
    assert plain.solution.startswith('def times_2(') and plain.solution.endswith('for x in values]')
    assert plain.answer.startswith('METADATA') and plain.answer.endswith('\n\ncheck(times_2)')
    assert helped.answer.startswith('from typing import List\n\n\ndef helper(x):')


def test_gold_programs_pass_and_others_do_not(files):
    problems = [p for split in code.load(str(files)).values() for p in split[-12:]]
    right = {p.id: (p.answer, p.solution) for p in problems}
    wrong = {f'{p.id} wrong': (p.answer, p.solution.replace('return', 'return not')) for p in problems}
    verdicts = equivalence.grade_many(code, right | wrong)
    assert all(verdicts[key].correct for key in right) and not any(verdicts[key].correct for key in wrong)
    # What the prompt gives need not be written again.
    alone = 'def times_3(values: List[int]):\n    return [helper(x) * 3 for x in values]'
    (problem,) = [p for p in code.load(str(files))['test'] if p.id == 'test/3']
    assert equivalence.grade(code, problem.answer, alone).correct


def test_a_program_is_asked_for_in_a_template_that_lets_it_be_one(files):
    config = make_config(files)
    tokenizer = embedded.tokenizer()
    page = tasks.template(config, tokenizer, chat=False)
    assert page.stop_strings == ('\nQ:',) and '\n\n' in tokenizer.decode(
        page.answer(code.build(config)['shots'][0].solution)
    )
    settings = asking.settings(config, page, 'train')
    assert settings.stop_ids == tokenizer.vocabulary.ends
    assert settings.stop_strings.find(b'', tokenizer.encode('a\n\n\nb'))[0] is None
    config.task.name = 'arithmetic'
    assert tasks.template(config, tokenizer, chat=False).stop_strings == prompts.STOP_STRINGS


def test_documents_are_of_training_problems_and_read_like_the_prompt(files):
    config = make_config(files)
    by_prompt = {prompts.zero_shot(p.question): p for split in code.load(str(files)).values() for p in split}
    documents = list(itertools.islice(code.documents(config), 600))
    used = {by_prompt[prompt].id.partition('/')[0] for turns in documents for prompt, _ in turns}
    assert used == {'train', 'shots'}
    turns = next(turns for turns in documents if len(turns) == 3)
    *shots, last = (by_prompt[prompt] for prompt, _ in turns)
    text = prompts.few_shot(shots, last.question) + prompts.target(last.solution)
    assert ''.join(prompt + target for prompt, target in turns) == text


@pytest.mark.parametrize(
    ('fields', 'message'),
    [
        ({'shots': ('train/601',)}, "has 'train/601': shots are MBPP problems, shots/1 to shots/10"),
        ({'num_train': 375}, 'num_train is 375: the coding task has 374 train problems'),
        ({'num_test': 165}, 'num_test is 165: the coding task has 164 test problems'),
    ],
)
def test_what_cannot_be_built(files, fields, message):
    with pytest.raises(UserError, match=message):
        code.build(make_config(files, **fields))


def test_local_files_are_checked(tmp_path):
    with pytest.raises(UserError, match=r'mbpp\.jsonl is not there: fetch https://.* and https://.* into .*manual_dir'):
        code.find_files(str(tmp_path))
    mbpp, humaneval = tmp_path / 'mbpp.jsonl', tmp_path / 'HumanEval.jsonl'
    mbpp.write_bytes(written(ROWS['mbpp'][:-1]))
    with pytest.raises(UserError, match=r'has 973 problems, it should have 974, task_id 1 to 974: fetch https'):
        code.find_files(str(tmp_path))
    mbpp.write_bytes(written([*ROWS['mbpp'][1:], ROWS['mbpp'][5]]))
    with pytest.raises(UserError, match='has 974 problems, it should have 974, task_id 1'):
        code.find_files(str(tmp_path))
    mbpp.write_bytes(written([*ROWS['mbpp'][:-1], ROWS['mbpp'][-1] | {'test_list': 'assert'}]))
    with pytest.raises(UserError, match='line 974: test_list is "assert", it must be a list'):
        code.find_files(str(tmp_path))
    mbpp.write_bytes(written(reversed(ROWS['mbpp'])))  # another order, and not compressed: the same problems
    humaneval.write_bytes(written(ROWS['humaneval']))
    assert code.find_files(str(tmp_path)) == {'mbpp': mbpp, 'humaneval': humaneval}
    assert [p.id for p in code.load(str(tmp_path))['train']][:2] == ['train/601', 'train/602']


def test_a_damaged_compressed_file_is_one_line(tmp_path, files):
    whole = (files / 'HumanEval.jsonl.gz').read_bytes()
    for damaged in (whole[:-20], b'not compressed', whole[:50] + bytes(50) + whole[100:]):
        (tmp_path / 'x.gz').write_bytes(damaged)
        with pytest.raises(UserError, match=r'x\.gz cannot be read: ') as error:
            list(jsonl.read(tmp_path / 'x.gz', {}))
        assert '\n' not in str(error.value)


@pytest.fixture
def server(files, monkeypatch, tmp_path):
    """The official URLs, served from here; TFDS's directory is a new one."""
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=files)
    monkeypatch.setattr(http.server.SimpleHTTPRequestHandler, 'log_message', lambda *args: None)
    monkeypatch.setenv('TFDS_DATA_DIR', str(tmp_path))
    server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    for key, source in code.SOURCES.items():
        url = f'http://127.0.0.1:{server.server_port}/{source.name}'
        sha256 = hashlib.sha256((files / source.name).read_bytes()).hexdigest()
        monkeypatch.setitem(code.SOURCES, key, dataclasses.replace(source, url=url, sha256=sha256))
    yield server
    server.shutdown()


def test_a_download_is_kept_and_gives_the_same_problems(files, server, capsys):
    local = code.load(str(files))
    assert code.load() == local
    assert 'downloading' in capsys.readouterr().out
    assert code.load() == local and not capsys.readouterr().out


def test_a_download_of_other_bytes_is_refused_and_not_kept(server, monkeypatch, tmp_path):
    source = dataclasses.replace(code.SOURCES['mbpp'], sha256='0' * 64)
    monkeypatch.setitem(code.SOURCES, 'mbpp', source)
    with pytest.raises(UserError, match='has other bytes than were published: fetch http'):
        code.load()
    assert not list(tmp_path.rglob('*.jsonl'))


def test_no_network_is_one_line(monkeypatch, tmp_path):
    monkeypatch.setenv('TFDS_DATA_DIR', str(tmp_path))
    monkeypatch.setitem(
        code.SOURCES, 'mbpp', dataclasses.replace(code.SOURCES['mbpp'], url='http://127.0.0.1:9/mbpp.jsonl')
    )
    with pytest.raises(UserError, match=r'mbpp\.jsonl cannot be downloaded .*refused.* set config.task.manual_dir'):
        code.load()
