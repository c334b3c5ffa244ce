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
    config, workdir = args.config, args.workdir
    count = args.n or 1
    if bool(args.problem) == bool(args.prompt):
        raise UserError('give --problem=ID (a problem of the run) or --prompt=TEXT (a question of your own)')
    if count < 1:
        raise UserError(f'--n is {count}: it must be at least 1')
    problem = _problem(workdir, args.problem) if args.problem else Problem('prompt', args.prompt, '', '')
    variant, chat, params, shots = models.load(args.model, config, workdir)
    tokenizer = Tokenizer(workdir.tokenizer_path)
    template = tasks.template(config, tokenizer, chat)
    requests = asking.requests(template, [problem], shots, lambda _: count)
    settings = asking.settings(config, template, 'generate', greedy=count == 1)
    settings = memory.with_slots(settings, variant, memory.Sizes(), requests)
    print(tokenizer.decode(template.prompt(problem.question)))
    finished = Engine(params, variant, settings, requests).sample(requests)
    for done in sorted(finished, key=lambda f: f.sample_index):
        text = template.text(done.tokens)
        verdict = equivalence.grade(tasks.get(config.task.name), problem.answer, text)
        marks = (
            f'  [{"right" if verdict.correct else f"wrong, the answer is {problem.answer}"}]' if problem.answer else ''
        )
        cut = '' if done.finish == 'stop' else '  [cut at the length limit]'
        print(f'{text}{marks}{cut}')


def _problem(workdir, problem_id: str) -> Problem:
    problems = {problem.id: problem for split in workdir.splits() for problem in workdir.problems(split)}
    if problem_id not in problems:
        near = did_you_mean(problem_id, problems)
        raise UserError(f'--problem={problem_id}: none of the {len(problems):,} problems of the run{near}')
    return problems[problem_id]
