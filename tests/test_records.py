import dataclasses
import errno
import os
import signal
import subprocess
import sys
import textwrap

import pytest

from cosample_jax import records
from cosample_jax.errors import UserError
from cosample_jax.records import Grade, Judgment, Problem, Sample, Store


def sample(problem_id='p1', model='weak', index=0, text='4 + 5 = 9'):
    return Sample(problem_id, model, index, text, [3, 1, 2], 'stop', -1.5, -0.25, 80, 3)


def parts(store):
    return sorted(path.name for path in store.directory.iterdir() if not path.name.startswith('.'))


@pytest.mark.parametrize(
    'record',
    [
        Problem('p', 'How many?\nTwo lines', '7', '3 + 4 = 7', 2, 'sum', '{"a": 1}'),
        sample(text='naïve ½ 数'),
        Grade('p', 'weak', 0, True, '7', 'The answer is', False, 'ungraded: time'),
        Judgment('p', 'weak', 0, 'steps', 'wrong', 'step 2'),
    ],
)
def test_every_record_survives_the_disk(tmp_path, record):
    store = Store(tmp_path, type(record))
    store.append([record])
    (back,) = store.read()
    assert back == record
    for field in dataclasses.fields(record):  # 7 == 7.0 == True would hide a changed type
        assert type(getattr(back, field.name)) is type(getattr(record, field.name))


def test_read_is_in_key_order_whatever_the_order_of_appends(tmp_path):
    store = Store(tmp_path, Sample)
    store.append([sample('b', index=10), sample('b', index=9)])
    store.append([sample('a', 'weak', 3), sample('a', 'strong', 4)])
    expected = [('a', 'strong', 4), ('a', 'weak', 3), ('b', 'weak', 9), ('b', 'weak', 10)]
    assert [records.key(record) for record in store.read()] == expected
    assert store.keys() == set(expected)
    assert store.table().column('sample_index').to_pylist() == [4, 3, 9, 10]
    assert len(store) == 4


def test_an_empty_store_and_an_empty_append(tmp_path):
    store = Store(tmp_path / 'none', Sample)
    assert store.read() == [] and store.keys() == set() and len(store) == 0
    assert store.table().column_names == [field.name for field in dataclasses.fields(Sample)]
    store.append([])
    assert not (tmp_path / 'none').exists()


def test_parts_are_named_by_process_and_sequence_and_never_overwritten(tmp_path):
    Store(tmp_path, Sample, process=0).append([sample(index=0)])
    Store(tmp_path, Sample, process=3).append([sample(index=1)])
    first, second = Store(tmp_path, Sample), Store(tmp_path, Sample)  # two views, as after a restart
    first.append([sample(index=2)])
    second.append([sample(index=3)])
    expected = ['part-00000-000000', 'part-00000-000001', 'part-00000-000002', 'part-00003-000000']
    assert parts(first) == [f'{name}.parquet' for name in expected]
    assert len(first.read()) == 4


def test_a_key_twice_in_a_batch_writes_nothing(tmp_path):
    store = Store(tmp_path, Sample)
    with pytest.raises(ValueError, match='two records with the key'):
        store.append([sample(), sample(text='another')])
    assert parts(store) == []


def test_a_key_in_two_parts_is_named_with_both_parts(tmp_path):
    store = Store(tmp_path, Sample)
    store.append([sample()])
    store.append([sample()])
    for read in (store.read, store.keys, store.table):
        with pytest.raises(UserError, match=r"'p1', 'weak', 0.*part-00000-000000.*part-00000-000001"):
            read()


@pytest.mark.parametrize('keep', [0, 3, 100, -1])
def test_a_truncated_part_is_named_with_the_fix(tmp_path, keep):
    store = Store(tmp_path, Sample, fix='do the thing')
    store.append([sample(index=i) for i in range(20)])
    part = tmp_path / 'part-00000-000000.parquet'
    part.write_bytes(part.read_bytes()[:keep])
    for read in (store.read, store.keys, store.__len__):
        with pytest.raises(UserError, match='part-00000-000000.parquet is corrupt or truncated.*do the thing') as error:
            read()
        assert '\n' not in str(error.value)


def test_no_flipped_byte_changes_what_is_read(tmp_path):
    store = Store(tmp_path, Sample)
    store.append([sample(index=i, text=f'the {i}th text') for i in range(3)])
    part = tmp_path / 'part-00000-000000.parquet'
    whole, wanted = part.read_bytes(), store.read()
    noticed = 0
    for position in range(0, len(whole), 7):
        part.write_bytes(whole[:position] + bytes([whole[position] ^ 0xFF]) + whole[position + 1 :])
        try:
            assert store.read() == wanted, f'byte {position} changed the records unnoticed'
        except UserError:
            noticed += 1
    assert noticed > 20


def test_a_part_of_another_kind_is_refused(tmp_path):
    Store(tmp_path, Grade).append([Grade('p', 'weak', 0, True, '7', '', True, '')])
    with pytest.raises(UserError, match='does not hold Sample records'):
        Store(tmp_path, Sample).read()


def test_temporary_files_and_strangers_are_invisible(tmp_path):
    store = Store(tmp_path, Sample)
    store.append([sample()])
    (tmp_path / '.part-00000-000001.parquet.0123.tmp').write_bytes(b'half')
    (tmp_path / 'notes.txt').write_text('mine')
    assert store.read() == [sample()]
    store.append([sample(index=1)])
    assert len(store.read()) == 2


@pytest.mark.parametrize('step', ['write', 'fsync', 'replace'])
def test_a_full_disk_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, step):
    path = tmp_path / 'value.json'
    records.write_json(path, {'old': 1})

    def full(*_):
        raise OSError(errno.ENOSPC, 'No space left on device', 'some temporary name')

    if step == 'write':
        monkeypatch.setattr('builtins.open', full)
    else:
        monkeypatch.setattr(os, step, full)
    with pytest.raises(OSError) as error:
        records.commit(path, b'new')
    monkeypatch.undo()
    assert error.value.errno == errno.ENOSPC and error.value.filename == str(path)
    assert records.read_json(path) == {'old': 1}
    assert [file.name for file in tmp_path.iterdir()] == ['value.json']


def test_a_kill_between_the_temporary_file_and_the_rename_loses_only_that_part(tmp_path):
    store = Store(tmp_path, Sample)
    store.append([sample(index=0)])
    script = f"""
        import os, signal
        from cosample_jax.records import Sample, Store
        os.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
        Store({str(tmp_path)!r}, Sample).append([Sample('p1', 'weak', 1, '', [], 'stop', 0.0, 0.0, 1, 1)])
    """
    done = subprocess.run([sys.executable, '-c', textwrap.dedent(script)])
    assert done.returncode == -signal.SIGKILL
    assert any(path.name.endswith('.tmp') for path in tmp_path.iterdir())
    assert store.keys() == {('p1', 'weak', 0)}
    store.append([sample(index=1)])
    assert store.keys() == {('p1', 'weak', 0), ('p1', 'weak', 1)}


def test_json_is_the_same_bytes_for_the_same_content_and_a_broken_one_is_named(tmp_path):
    records.write_json(tmp_path / 'a.json', {'b': 1, 'a': [1.5, 'ü']})
    records.write_json(tmp_path / 'b.json', {'a': [1.5, 'ü'], 'b': 1})
    assert (tmp_path / 'a.json').read_bytes() == (tmp_path / 'b.json').read_bytes()
    (tmp_path / 'a.json').write_text('{"a": ')
    with pytest.raises(UserError, match='a.json is not valid JSON'):
        records.read_json(tmp_path / 'a.json')
