import json
import time
from types import SimpleNamespace

import pytest

from cosample_jax.grading import answers, equivalence

ALL = SimpleNamespace(MARKERS=answers.MARKERS, ANSWERS='number')


def test_a_verdict_keeps_both_engines():
    assert equivalence.grade(ALL, '1,000', '... #### 1000.0') == equivalence.Verdict(True, '1000', '####', True, '')
    assert equivalence.grade(ALL, '8', 'The answer is 2^3.') == equivalence.Verdict(
        True, '2^3', 'The answer is', True, ''
    )
    assert equivalence.grade(ALL, '8', 'The answer is \\max(2,8).') == equivalence.Verdict(
        True, '\\max(2,8)', 'The answer is', False, 'yes'
    )
    assert equivalence.grade(ALL, '8', 'It is 8') == equivalence.Verdict(False, '', '', False, '')


@pytest.mark.parametrize('answer', ['9', 'Not possible', "10+John's age", '6, 7', 'eight', '-8', '', '8 or 9'])
def test_the_symbolic_engine_is_not_asked_for_numbers_and_prose(answer, monkeypatch):
    monkeypatch.setattr(equivalence.symbolic, 'shared_pool', lambda: pytest.fail('asked'))
    assert not equivalence.grade(ALL, '8', f'#### {answer}').correct


def test_results_are_keyed_in_the_order_given():
    pairs = {('b', 1): ('2', '#### 2'), ('a', 7): ('2', '#### 1+1'), 'c': ('3', ''), 0: ('2', '#### 1+1')}
    verdicts = equivalence.grade_many(ALL, pairs)
    assert list(verdicts) == list(pairs)
    assert [v.correct for v in verdicts.values()] == [True, True, False, True]
    assert equivalence.grade_many(ALL, {}) == {}


def test_a_fault_of_the_strict_engine_is_a_recorded_reason(monkeypatch):
    monkeypatch.setattr(equivalence.expressions, 'compare', lambda gold, answer: 1 // 0)
    math = SimpleNamespace(MARKERS=('\\boxed',), ANSWERS='math')
    verdicts = equivalence.grade_many(math, {'a': ('5', '\\boxed{5}'), 'b': ('5', '')})
    assert verdicts['a'] == equivalence.Verdict(False, '5', '\\boxed', False, 'ungraded: ZeroDivisionError')
    assert list(verdicts) == ['a', 'b']


def test_refused_mathematics_is_audited_and_stays_refused(monkeypatch):
    monkeypatch.setattr(equivalence, 'AUDITED', 1)
    math = SimpleNamespace(MARKERS=('\\boxed',), ANSWERS='math')
    # math-verify takes these two numbers for one.
    verdict = equivalence.grade(math, '1/2^{99}', '\\boxed{1/2^{98}}')
    assert verdict == equivalence.Verdict(False, f'1/{2**98}', '\\boxed', False, 'yes')
    assert equivalence.grade(math, '5', '\\boxed{6}').symbolic == ''  # two plain numbers need no second opinion


def test_an_oversized_expression_is_ungraded_with_its_reason():
    verdict = equivalence.grade(ALL, '5', '#### ' + '(' * 20_000 + '5' + ')' * 20_000)
    assert not verdict.correct
    assert verdict.symbolic == 'ungraded: 40001 characters, more than 1000'


def test_openai_labels_are_reproduced(shared_data, capsys):
    """5,276 solutions of four models; the 11 cut before their `A:` have no marker and are not correct."""
    pairs, labels = {}, {}
    for index, row in enumerate(_rows(shared_data / 'gsm8k_example_model_solutions.jsonl')):
        gold, _ = answers.extract(row.pop('ground_truth'), answers.MARKERS)
        del row['question']
        for model, solution in row.items():
            pairs[index, model] = gold, solution['solution']
            labels[index, model] = solution['is_correct']
    start = time.perf_counter()
    verdicts = equivalence.grade_many(ALL, pairs)
    seconds = time.perf_counter() - start
    with capsys.disabled():
        print(f'\n  {len(pairs):,} OpenAI solutions: {len(pairs) / seconds:,.0f} gradings/s')
    assert len(verdicts) == 5_276
    assert {key: verdict.correct for key, verdict in verdicts.items()} == labels
    assert sum(verdict.marker == '' for verdict in verdicts.values()) == 11


@pytest.mark.parametrize(('size', 'marked', 'correct'), [('2b', 1314, 697), ('9b', 1319, 1153), ('27b', 1319, 1190)])
def test_json_answers_of_gemma(shared_data, size, marked, correct):
    rows = _rows(shared_data / f'zeroeval_gsm_gemma-2-{size}-it.jsonl')
    verdicts = equivalence.grade_many(ALL, {row['id']: (row['gold'], row['output']) for row in rows})
    assert sum(verdict.marker == '"answer":' for verdict in verdicts.values()) == marked
    assert sum(verdict.correct for verdict in verdicts.values()) == correct


@pytest.mark.parametrize(('split', 'count'), [('train', 7_473), ('test', 1_319)])
def test_every_gsm8k_gold_is_extracted_and_equal_to_itself(shared_data, split, count):
    seen = 0
    for row in _rows(shared_data / f'gsm8k_{split}.jsonl'):
        gold = row['answer'].rpartition('####')[2].strip()
        answer, marker = answers.extract(row['answer'], answers.MARKERS)
        assert (answer, marker) == (gold, '####')
        assert answers.number(gold) is not None and answers.equal(gold, answer)
        off_by_one = answers.number(gold) + 1
        assert not answers.equal(gold, str(off_by_one))
        assert answers.equal(gold, answers.normal_form(gold))
        seen += 1
    assert seen == count


def _rows(path):
    with open(path, encoding='utf-8', newline='\n') as lines:
        return [json.loads(line) for line in lines]
