"""From problems to requests: <bos> in front, and what ends a sample, with embedded and official vocabularies."""

import hashlib

import pytest

from cosample_jax import config as config_lib
from cosample_jax import embedded
from cosample_jax.errors import UserError
from cosample_jax.gemma.tokenizer import Tokenizer
from cosample_jax.records import Problem, read_json
from cosample_jax.sampling import asking
from cosample_jax.tasks import prompts
from cosample_jax.workdir import Workdir

SHOT = Problem('shots/0', 'Ann has 5 pens.', '5', 'The answer is 5.')
PROBLEM = Problem('test/0', 'Bob has 6 pens.', '6', '')


@pytest.mark.parametrize(
    ('family', 'end_of_turn', 'blank_line'),
    [('', 5, 7), ('gemma1', 107, 109), ('gemma2', 107, 109), ('gemma3', 106, 108)],
)
def test_prompts_begin_with_bos_and_a_blank_line_is_a_stop(gemma_tokenizer, family, end_of_turn, blank_line):
    tokenizer = Tokenizer(gemma_tokenizer(family)) if family else embedded.tokenizer()
    template = prompts.template(tokenizer, chat=False)
    settings = asking.settings(config_lib.base(), template, 'train')
    stops = settings.stop_ids
    assert stops[:3] == (1, end_of_turn, blank_line)
    assert settings.stop_strings.find(b'', tokenizer.encode(' 6\nQ: and so on')) != (None, b'')
    first, second = asking.requests(template, [PROBLEM], [SHOT], lambda problem_id: 2)
    assert first.prompt == second.prompt and (first.sample_index, second.sample_index) == (0, 1)
    assert first.prompt == [2, *tokenizer.encode('Q: Ann has 5 pens.\nA: The answer is 5.\n\nQ: Bob has 6 pens.\nA:')]
    assert first.prompt[0] == 2 and first.prompt.count(2) == 1
    assert first.prompt.count(blank_line) == 1  # the one that ends the shot, as it will end a solution
    if family:  # and so do five of them, which are one piece
        assert tokenizer.encode('\n' * 6) == [blank_line + 4] and blank_line + 4 in stops


@pytest.mark.parametrize(('family', 'end_of_turn'), [('', 5), ('gemma2', 107), ('gemma3', 106)])
def test_a_turn_ends_with_its_token_and_not_with_a_blank_line(gemma_tokenizer, family, end_of_turn):
    tokenizer = Tokenizer(gemma_tokenizer(family)) if family else embedded.tokenizer()
    template = prompts.template(tokenizer, chat=True)
    settings = asking.settings(config_lib.base(), template, 'train')
    assert settings.stop_ids == (1, end_of_turn) and settings.stop_strings is None
    (request,) = asking.requests(template, [PROBLEM], [SHOT], lambda problem_id: 1)
    assert request.prompt == template.prompt(PROBLEM.question, [SHOT]) != template.prompt(PROBLEM.question)


def test_a_run_without_shots_asks_zero_shot(tmp_path):
    workdir = Workdir(tmp_path)
    assert asking.shots(workdir) == []
    workdir.write_problems('train', [PROBLEM])
    assert asking.shots(workdir) == []
    workdir.write_problems('shots', [SHOT])
    assert asking.shots(workdir) == [SHOT]


def test_the_prompt_of_a_pool_is_stored_once_and_another_is_refused(tmp_path):
    tokenizer = embedded.tokenizer()
    shots = [Problem('train/4', 'Ann has 5 pens.', '5', 'So:\n\nIt is 5.')]
    for chat in (False, True):
        template, pool = prompts.template(tokenizer, chat), tmp_path / str(chat)
        asking.store_prompt(pool, template, shots)
        asking.store_prompt(pool, template, shots)
        stored = read_json(pool / 'prompt.json')
        assert stored['text'] == template.spelled('{question}', shots) and stored['shots'] == ['train/4']
        assert stored['sha256'] == hashlib.sha256(stored['text'].encode()).hexdigest()
        assert stored['stop_ids'] == list(template.stop_ids)
        with pytest.raises(
            UserError, match=r'prompt.json: .* asked with another prompt \(text, sha256, shots\)'
        ) as error:
            asking.store_prompt(pool, template, [])
        assert '\n' not in str(error.value) and read_json(pool / 'prompt.json') == stored
    with pytest.raises(UserError, match='style, text'):
        asking.store_prompt(tmp_path / 'False', prompts.template(tokenizer, True), shots)
    assert read_json(tmp_path / 'False' / 'prompt.json')['text'] == (
        '<bos>Q: Ann has 5 pens.\nA: So:\nIt is 5.\n\nQ: {question}\nA:'
    )
