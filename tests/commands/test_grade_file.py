import json
from types import SimpleNamespace

import pytest

from cosample_jax.commands import grade_file
from cosample_jax.errors import UserError

ROWS = [
    {'id': 'b', 'completion': '9 * 2 = 18\n#### 18', 'answer': '18', 'kept': {'as': 'it is'}},
    {'id': 'a', 'completion': 'The answer is 1,000.', 'answer': 1000},
    {'id': 7, 'completion': 'so 18 it is', 'answer': '18'},
    {'id': 'b', 'completion': 'A: 19', 'answer': 'Nine times two is 18.\n#### 18'},
    {'id': 'c', 'completion': '```json\n{"answer": "2.50"}\n```', 'answer': 2.5},
    {'id': 'd', 'completion': f'#### {"(" * 2_000}', 'answer': '5\u2028'},
]


def run(tmp_path, text, task='gsm8k'):
    path = tmp_path / 'rows.jsonl'
    path.write_text(text, encoding='utf-8')
    grade_file.main(SimpleNamespace(task=task, input=str(path), output=str(tmp_path / 'out.jsonl')))
    return [json.loads(line) for line in (tmp_path / 'out.jsonl').read_text().split('\n')[:-1]]


def lines(rows):
    return ''.join(json.dumps(row, ensure_ascii=False) + '\n' for row in rows)


def test_rows_come_back_in_order_with_correct(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(grade_file, '_CHUNK', 2)
    out = run(tmp_path, lines(ROWS))
    assert [row['correct'] for row in out] == [True, True, False, False, True, False]
    assert [row['extracted'] for row in out] == ['18', '1000', '', '19', '2.5', '(' * 200]
    added = ('correct', 'extracted', 'ungraded')
    assert [{name: value for name, value in row.items() if name not in added} for row in out] == ROWS
    assert [row.get('ungraded', '') for row in out][:5] == [''] * 5
    assert out[5]['ungraded'].startswith('ungraded: 2000 characters')
    assert '6 rows, 3 correct, 1 without an answer' in capsys.readouterr().out


def test_a_tasks_own_markers_count(tmp_path):
    rows = lines([{'id': 1, 'completion': '#### 5', 'answer': '5'}])
    assert [row['correct'] for row in run(tmp_path, rows)] == [True]
    assert [row['correct'] for row in run(tmp_path, rows, 'arithmetic')] == [False]


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        (lines(ROWS[:2]) + '{"id": 1,\n', r'rows\.jsonl line 3 is not JSON'),
        ('\n' + lines(ROWS[:1]) + '[1]\n', 'line 3 is not a JSON object'),
        (
            '{"id": 1, "completion": "#### 5"}\n',
            "line 1 has no field 'answer': rows need id, completion, answer",
        ),
        ('{"id": 1, "completion": null, "answer": "5"}\n', 'line 1: completion is null, it must be text'),
        (
            '{"id": true, "completion": "", "answer": "5"}\n',
            'line 1: id is true, it must be text or a whole number',
        ),
        ('\n', 'has no rows'),
    ],
)
def test_a_bad_line_is_named_and_nothing_is_written(tmp_path, text, message):
    with pytest.raises(UserError, match=message) as error:
        run(tmp_path, text)
    assert '\n' not in str(error.value)
    assert [path.name for path in tmp_path.iterdir()] == ['rows.jsonl']


def test_bad_files_and_tasks(tmp_path):
    with pytest.raises(UserError, match='missing.jsonl cannot be read: No such file'):
        grade_file.main(SimpleNamespace(task='gsm8k', input=str(tmp_path / 'missing.jsonl'), output='out'))
    with pytest.raises(UserError, match='algebra'):
        grade_file.main(SimpleNamespace(task='algebra', input='in', output='out'))
    (tmp_path / 'latin.jsonl').write_bytes(b'{}\n{"id": "\xe9"}\n')
    with pytest.raises(UserError, match='line 2 is not UTF-8'):
        grade_file.main(SimpleNamespace(task='gsm8k', input=str(tmp_path / 'latin.jsonl'), output='out'))
