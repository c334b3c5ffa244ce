"""`cosample generate`: solutions of one model of a run, to look at.

    cosample generate --workdir=runs/arithmetic --model=strong --problem=test/3 --n=3
    cosample generate --workdir=runs/arithmetic --model=student-weak-high-s0 --prompt="Ann has 12 pens. ..."

Base models are asked few-shot, fine-tuned cells zero-shot. One solution is greedy, several are sampled as in the run.
"""

from cosample_jax import memory, models, tasks
from cosample_jax.errors import UserError, did_you_mean
from cosample_jax.gemma.tokenizer import Tokenizer
from cosample_jax.grading import equivalence
from cosample_jax.records import Problem
from cosample_jax.sampling import asking
from cosample_jax.sampling.engine import Engine


def main(args) -> None:
    count = args.n or 1
    if bool(args.problem) == bool(args.prompt):
        raise UserError('give --problem=ID (a problem of the run) or --prompt=TEXT (a question of your own)')
    if count < 1:
        raise UserError(f'--n is {count}: it must be at least 1')
    problem = _problem(args.workdir, args.problem) if args.problem else question(args.prompt)
    prompt, drawn = solutions(args.config, args.workdir, args.model, problem, count)
    print(prompt)
    for each in drawn:
        verdict = 'right' if each['correct'] else f'wrong, the answer is {problem.answer}'
        marks = f'  [{verdict}]' if problem.answer else ''
        cut = '' if each['finish'] == 'stop' else '  [cut at the length limit]'
        print(f'{each["text"]}{marks}{cut}')


def question(text: str) -> Problem:
    """A problem of one's own, of unknown answer."""
    return Problem('prompt', text, '', '')


def solutions(config, workdir, name: str, problem: Problem, count: int) -> tuple[str, list[dict]]:
    """The prompt of a problem, zero-shot, and `count` solutions of the model called `name`: their ``text``, ``answer``,
    whether that is ``correct`` (None where the right one is not known), how they ``finish`` and ``num_tokens``.

    UserError when there is no such model, or it is not trained yet.
    """
    variant, chat, params, shots = models.load(name, config, workdir)
    tokenizer = Tokenizer(workdir.tokenizer_path)
    template = tasks.template(config, tokenizer, chat)
    requests = asking.requests(template, [problem], shots, lambda _: count)
    settings = asking.settings(config, template, 'generate', greedy=count == 1)
    settings = memory.with_slots(settings, variant, memory.Sizes(), requests)
    finished = Engine(params, variant, settings, requests).sample(requests)
    drawn = []
    for done in sorted(finished, key=lambda f: f.sample_index):
        text = template.text(done.tokens)
        verdict = equivalence.grade(tasks.get(config.task.name), problem.answer, text)
        row = {'sample_index': done.sample_index, 'text': text, 'answer': verdict.answer}
        row |= {'correct': verdict.correct if problem.answer else None, 'finish': done.finish}
        drawn.append(row | {'num_tokens': len(done.tokens)})
    return tokenizer.decode(template.prompt(problem.question)), drawn


def _problem(workdir, problem_id: str) -> Problem:
    problems = {problem.id: problem for split in workdir.splits() for problem in workdir.problems(split)}
    if problem_id not in problems:
        near = did_you_mean(problem_id, problems)
        raise UserError(f'--problem={problem_id}: none of the {len(problems):,} problems of the run{near}')
    return problems[problem_id]
