"""What is made of a request for one model, without HTTP and without drawing anything."""

import dataclasses
from types import SimpleNamespace

import pytest

from cosample_jax import embedded
from cosample_jax.records import Problem
from cosample_jax.sampling.policy import SamplingSettings
from cosample_jax.sampling.rows import Finished
from cosample_jax.serving.protocol import ChatAsk, CompletionAsk, Refused, read
from cosample_jax.serving.served import Served
from cosample_jax.tasks import prompts

SETTINGS = SamplingSettings(
    seed=0, purpose='serve', temperature=0.7, top_k=3, top_p=0.9, max_new_tokens=50, slots=4, stop_ids=(1, 5)
)
TOKENIZER = embedded.tokenizer()
ENDS = set(TOKENIZER.vocabulary.ends)


def served(chat=False, stops=prompts.STOP_STRINGS):
    template = prompts.template(TOKENIZER, chat, stops)
    return Served('weak', template, SETTINGS, SimpleNamespace(prompt_tokens=200), 'fp_0'), template


def ask(kind=CompletionAsk, **fields):
    fields = {'model': 'weak'} | ({'prompt': 'x'} if kind is CompletionAsk else {}) | fields
    return kind.model_validate(fields)


def request(model, **fields):
    asked = ask(**fields)
    return model.requests(asked, model.prompts(asked))[0][0]


@pytest.mark.parametrize('chat', [True, False])
def test_a_conversation_is_put_into_the_models_template(chat):
    model, template = served(chat)
    turns = [('user', 'Ann?'), ('assistant', 'It is 5.'), ('user', 'Bo?')]
    messages = [{'role': role, 'content': text} for role, text in turns]
    shots = [Problem('s', 'Ann?', '', 'It is 5.')]
    assert model.prompts(ask(ChatAsk, messages=messages)) == [template.prompt('Bo?', shots)]
    messages.insert(0, {'role': 'system', 'content': 'Be brief.'})
    assert model.prompts(ask(ChatAsk, messages=messages)) == [template.conversation('Be brief.', shots, 'Bo?')]


def test_a_turn_is_answered_whole_and_a_page_up_to_its_stop():
    written = TOKENIZER.encode(' So:\n\nIt is 5.')
    done = Finished('p', 0, written, 'stop', 0.0, 0.0, 1, len(written))
    asked = ask(ChatAsk, messages=[{'role': 'user', 'content': 'x'}])
    assert served(chat=True)[0].choice(asked, 0, done).text == ' So:\n\nIt is 5.'
    assert served(chat=False)[0].choice(asked, 0, done).text == 'So:'
    assert served(chat=False)[0].choice(ask(), 0, done).text == ' So:'
    assert served(chat=False)[0].choice(ask(stop='It'), 0, done).text == ' So:\n\n'


def test_tokens_that_are_blank_lines_end_an_answer_where_blank_lines_do():
    model, template = served()
    blank = set(template.stop_ids) - ENDS
    assert blank
    for stops, expected in (({}, ENDS | blank), ({'stop': ['\n\n', '\nQ:']}, ENDS | blank), ({'stop': 'x'}, ENDS)):
        assert request(model, **stops).own.stop_ids == expected
    for other in (served(chat=True)[0], served(stops=('\nQ:',))[0]):
        for stops in ({}, {'stop': ['\n\n']}):
            assert request(other, **stops).own.stop_ids == ENDS


def test_what_is_left_out_is_as_the_run_samples():
    model, _ = served()
    own = request(model).own
    assert (own.temperature, own.top_k, own.top_p, own.logprobs) == (0.7, 3, 0.9, False)
    own = request(model, temperature=0.0, top_k=-1, top_p=1.0, logprobs=0).own
    assert (own.temperature, own.top_k, own.top_p, own.logprobs) == (0.0, 0, 1.0, True)
    assert request(model).max_new_tokens == 50 and request(model, max_completion_tokens=7).max_new_tokens == 7


def test_a_seed_is_a_problem_and_an_index():
    model, _ = served()
    (requests,) = model.requests(asked := ask(seed=(5 << 32) | 0xFFFFFFFE, n=3), model.prompts(asked))
    assert [r.sample_index for r in requests] == [5, 6, 7]
    assert {r.own.problem_hash for r in requests} == {0xFFFFFFFE}
    assert len({(r.own.problem_hash, r.sample_index) for r in (request(model) for _ in range(20))}) == 20
    most = ask(seed=2**63 - 1)
    assert model.requests(most, [[2]])[0][0].sample_index == 2**31 - 1
    with pytest.raises(Refused, match='seed'):
        model.requests(most.model_copy(update={'n': 2}), [[2]])


def test_engines_are_only_told_what_they_know():
    """Problems of a request, and of others, are never taken for one another."""
    model, _ = served()
    groups = model.requests(asked := ask(prompt=['x', 'x'], n=2), model.prompts(asked))
    groups += model.requests(asked, model.prompts(asked))
    assert len({r.problem_id for group in groups for r in group}) == 4
    assert all(len({r.problem_id for r in group}) == 1 for group in groups)
    assert all(dataclasses.is_dataclass(r.own) for group in groups for r in group)


@pytest.mark.parametrize('body', [b'{"model": "m", "prompt": "x", "n": true}', b'{"model": 1, "prompt": "x"}', b'{}'])
def test_kinds_are_not_guessed(body):
    with pytest.raises(Refused) as refused:
        read(CompletionAsk, body)
    assert refused.value.status == 400 and refused.value.param in ('n', 'model')
