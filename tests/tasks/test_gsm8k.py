import dataclasses
import functools
import http.server
import itertools
import json
import shutil
import sys
import threading

import pytest

from cosample_jax import config as config_lib
from cosample_jax.errors import UserError
from cosample_jax.grading import answers
from cosample_jax.tasks import gsm8k, prompts


@pytest.fixture(scope='module')
def prepared(tmp_path_factory):
    """Where TFDS keeps what it has prepared, shared by the tests of this file."""
    return tmp_path_factory.mktemp('tfds')


@pytest.fixture(autouse=True)
def tfds_home(prepared, monkeypatch):
    monkeypatch.setenv('TFDS_DATA_DIR', str(prepared))


def make_config(shared_data, **fields):
    config = config_lib.base()
    config.task.name = 'gsm8k'
    config.task.manual_dir = str(shared_data)
    config.task.num_train, config.task.num_validation, config.task.num_test = 6_971, 500, 1_319
    config.task.shots = ('train/1', 'train/5')
    for name, value in fields.items():
        config_lib.get(config, 'task')[name] = value
    return config


def test_splits_are_disjoint_complete_and_of_the_right_sizes(shared_data):
    splits = gsm8k.build(make_config(shared_data))
    assert {name: len(problems) for name, problems in splits.items()} == {
        'train': 6_971, 'validation': 500, 'test': 1_319, 'shots': 2,
    }  # fmt: skip
    ids = [problem.id for problems in splits.values() for problem in problems]
    assert len(set(ids)) == len(ids) == 7_473 + 1_319
    questions = [' '.join(p.question.lower().split()) for problems in splits.values() for p in problems]
    assert len(set(questions)) == len(questions)
    assert all(p.id.startswith('test/') == (name == 'test') for name, ps in splits.items() for p in ps)
    assert 'tensorflow' not in sys.modules


def test_a_problem(shared_data):
    shot, _ = gsm8k.build(make_config(shared_data))['shots']
    assert shot.id == 'train/1' and shot.question.startswith('Weng earns $12 an hour')
    assert shot.answer == '10'
    assert shot.solution == (
        'Weng earns 12/60 = $0.2 per minute.\nWorking 50 minutes, she earned 0.2 x 50 = $10.\nThe answer is 10.'
    )


def test_every_solution_is_graded_correct_and_fits_the_prompt(shared_data):
    for problem in itertools.chain.from_iterable(gsm8k.load(str(shared_data)).values()):
        answer, marker = answers.extract(problem.solution, gsm8k.MARKERS)
        assert marker == 'The answer is' and answers.equal(problem.answer, answer), problem
        assert prompts.STOP not in problem.solution and '<<' not in problem.solution


def test_sizes_nest_and_the_seed_matters(shared_data):
    whole = gsm8k.build(make_config(shared_data))
    small = make_config(shared_data, num_train=200, num_validation=100, num_test=50)
    for name, problems in gsm8k.build(small).items():
        assert problems == whole[name][: len(problems)]
    small.seed = 1
    other = gsm8k.build(small)
    assert {p.id for p in other['validation']} != {p.id for p in whole['validation'][:100]}


def test_documents_leave_validation_out_and_are_endless(shared_data):
    config = make_config(shared_data)
    held_out = {problem.question for problem in gsm8k.build(config)['validation']}
    documents = list(itertools.islice(gsm8k.documents(config), 8_000))
    asked = {prompt for turns in documents for prompt, _ in turns}
    assert len(asked) == 6_973 and not asked & {prompts.zero_shot(question) for question in held_out}
    lengths = [len(turns) for turns in documents]
    assert 0.45 < lengths.count(1) / 8_000 < 0.55
    assert lengths.count(2) < 4 and set(lengths) <= {1, 2, 3}  # fewer shots only where an epoch ends
    assert documents[:50] == list(itertools.islice(gsm8k.documents(config), 50))


def test_a_document_reads_like_the_few_shot_prompt(shared_data):
    config = make_config(shared_data)
    by_prompt = {prompts.zero_shot(p.question): p for p in gsm8k.load(str(shared_data))['train']}
    turns = next(turns for turns in gsm8k.documents(config) if len(turns) == 3)
    *shots, last = (by_prompt[prompt] for prompt, _ in turns)
    text = prompts.few_shot(shots, last.question) + prompts.target(last.solution)
    assert ''.join(prompt + target for prompt, target in turns) == text


@pytest.mark.parametrize(
    ('fields', 'message'),
    [
        ({'shots': ('train/7473',)}, "has 'train/7473': shots are training problems, train/0 to train/7472"),
        ({'shots': ('test/0',)}, "has 'test/0'"),
        ({'num_train': 6_972}, 'num_train is 6972: GSM8K has 6971 train problems here'),
        ({'num_test': 1_320}, 'num_test is 1320'),
    ],
)
def test_what_cannot_be_built(shared_data, fields, message):
    with pytest.raises(UserError, match=message):
        gsm8k.build(make_config(shared_data, **fields))


def test_local_files_are_recognised_and_checked(shared_data, tmp_path):
    with pytest.raises(
        UserError, match=r'train\.jsonl is not there: fetch https://.*/train\.jsonl and https.* into'
    ) as e:
        gsm8k.find_files(str(tmp_path))
    assert '\n' not in str(e.value) and 'config.task.manual_dir' in str(e.value)

    shutil.copy(shared_data / 'gsm8k_test.jsonl', tmp_path / 'test.jsonl')
    lines = (shared_data / 'gsm8k_train.jsonl').read_text(encoding='utf-8').split('\n')
    train = tmp_path / 'gsm8k_train.jsonl'
    # The same rows in another spelling of JSON are the same data.
    train.write_text('\n'.join(json.dumps(json.loads(line), ensure_ascii=False) for line in lines if line) + '\n')
    assert gsm8k.find_files(str(tmp_path)) == {'train': train, 'test': tmp_path / 'test.jsonl'}

    train.write_text('\n'.join(lines[:-2]) + '\n')
    with pytest.raises(UserError, match='has 7472 problems, GSM8K has 7473'):
        gsm8k.find_files(str(tmp_path))
    train.write_text('\n'.join([lines[0].replace('48', '49'), *lines[1:]]))
    with pytest.raises(UserError, match='does not hold the official'):
        gsm8k.find_files(str(tmp_path))
    train.write_text('\n'.join([*lines[:6], lines[6][:40], *lines[7:]]))
    with pytest.raises(UserError, match='line 7 is not JSON'):
        gsm8k.find_files(str(tmp_path))


@pytest.fixture
def server(shared_data, monkeypatch):
    """The official URLs, served from here."""
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=shared_data)
    monkeypatch.setattr(http.server.SimpleHTTPRequestHandler, 'log_message', lambda *args: None)
    server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()

    def point_at(**names):
        for split, name in names.items():
            url = f'http://127.0.0.1:{server.server_port}/{name}'
            monkeypatch.setitem(gsm8k.SOURCES, split, dataclasses.replace(gsm8k.SOURCES[split], url=url))

    yield point_at
    server.shutdown()


def test_the_download_gives_the_same_problems(shared_data, server, tmp_path, monkeypatch):
    local = gsm8k.load(str(shared_data))
    monkeypatch.setenv('TFDS_DATA_DIR', str(tmp_path))
    server(train='gsm8k_train.jsonl', test='gsm8k_test.jsonl')
    assert gsm8k.load() == local


def test_a_download_of_other_bytes_is_refused(server, tmp_path, monkeypatch):
    monkeypatch.setenv('TFDS_DATA_DIR', str(tmp_path))
    server(train='svamp_test.jsonl', test='gsm8k_test.jsonl')
    with pytest.raises(UserError, match='cannot be downloaded .* fetch http.*manual_dir'):
        gsm8k.load()


def test_no_network_is_one_line_at_once(tmp_path, monkeypatch):
    monkeypatch.setenv('TFDS_DATA_DIR', str(tmp_path))
    source = dataclasses.replace(gsm8k.SOURCES['test'], url='http://127.0.0.1:9/test.jsonl')
    monkeypatch.setitem(gsm8k.SOURCES, 'test', source)
    with pytest.raises(UserError, match='cannot be downloaded .*Connection refused.* set config.task.manual_dir'):
        gsm8k.load()
