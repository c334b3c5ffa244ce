"""evaluate: pass@1 and maj@k of every trained cell, and of the base models, on the test and functional problems.

pass@1 is greedy. maj@k for every k comes from the same `maj_samples` samples at the sampling temperature, on the first
`maj_problems` test problems. Trained models are asked zero-shot, base models few-shot. When all models have been asked,
the reasoning of the right greedy solutions is judged by each judge of the configuration, as that of the sources is.
"""

from collections.abc import Iterator
from typing import NamedTuple

from cosample_jax import cells, checkpoint, hosts, judges, memory, progress, sharding, tasks
from cosample_jax.analysis import votes
from cosample_jax.gemma import config as gemma_config
from cosample_jax.gemma import model
from cosample_jax.gemma.tokenizer import Tokenizer
from cosample_jax.grading import judge as judge_lib
from cosample_jax.grading.pool import grade_pool
from cosample_jax.records import Grade, Problem, read_json, write_json
from cosample_jax.sampling import asking
from cosample_jax.sampling.engine import Engine
from cosample_jax.sampling.pool import fill_pool


class Subject(NamedTuple):
    """A model to evaluate; `record` is its row in results.json, `weights` the directory of its checkpoints."""

    record: dict
    variant: str
    base: bool


def run(config, workdir) -> dict:
    tokenizer = Tokenizer(workdir.tokenizer_path)
    task = tasks.get(config.task.name)
    splits = {split: workdir.problems(split) for split in config.evaluate.splits}
    subjects = list(_subjects(config, workdir))
    rows = []
    with progress.bar('evaluate', total=len(subjects), unit='models') as bar:
        for subject in subjects:
            path = workdir.path('evaluate', 'cells', f'{subject.record["cell"]}.json')
            if not path.exists():
                results = {}
                if subject.base or subject.record['trained']:
                    results = _Evaluation(subject, config, workdir, tokenizer, task).results(splits)
                hosts.alone(write_json, path, subject.record | {'results': results})
            rows.append(read_json(path))
            bar.advance()
    _judge(config, workdir, splits, rows)
    hosts.alone(write_json, workdir.path('evaluate', 'results.json'), {'cells': rows})
    return {
        'models': len(rows),
        'tokens': sum(r['tokens'] + r.get('maj_tokens', 0) for row in rows for r in row['results'].values()),
    }


def _judge(config, workdir, splits: dict[str, list[Problem]], rows: list[dict]) -> None:
    """Adds the first judge's false positives to the results of each model; the others' stay in their stores."""
    for number, judge in enumerate(judges.of(config, workdir)):
        for row in rows:
            for split, result in row['results'].items():
                pool = f'{split}-greedy', row['cell']
                problems = {problem.id: problem for problem in splits[split]}
                samples = judge_lib.selected(judge_lib.kept(workdir, *pool), problems, judge.samples, config.seed)
                counts = judge_lib.judge_pool(workdir, *pool, samples, problems, judge)
                if number == 0:
                    result['fpr'] = judge_lib.rate(counts)


def _subjects(config, workdir) -> Iterator[Subject]:
    for name in config.roles.trained:
        yield Subject(
            {
                'cell': f'{name}-base',
                'model': name,
                'data': 'base',
                'budget': '',
                'seed': 0,
                'trained': False,
                'reason': '',
            },
            config.models[name].variant,
            True,
        )
    for cell in cells.grid(config):
        record = read_json(workdir.cell_dir(cell.name) / 'cell.json')
        yield Subject(record, config.models[cell.model].variant, False)


class _Evaluation:
    """One model under evaluation."""

    def __init__(self, subject: Subject, config, workdir, tokenizer: Tokenizer, task):
        self.cell = subject.record['cell']
        self.config, self.workdir, self.task = config, workdir, task
        self.template = tasks.template(config, tokenizer, config.models[subject.record['model']].chat)
        self.variant = gemma_config.variant(subject.variant)
        self.shots = asking.shots(workdir) if subject.base else []
        self.mesh = sharding.run_mesh(config)
        if subject.base:
            directory = workdir.model_dir(subject.record['model'])
            self.params = checkpoint.load_weights(directory, self.variant, model.compute_dtype(), self.mesh)
        else:
            run = checkpoint.RunCheckpoints(workdir.cell_dir(self.cell) / subject.record['weights'])
            self.params = run.load_best(self.variant, model.compute_dtype(), self.mesh)
            run.close()

    def results(self, splits: dict[str, list[Problem]]) -> dict:
        results = {}
        for split, problems in splits.items():
            purpose = f'{split}-greedy'
            tokens = self._sample(purpose, problems, 1, greedy=True)
            grade_pool(self.workdir, purpose, self.cell, problems, self.task)
            correct = {g.problem_id: int(g.correct) for g in self.workdir.grades(purpose, self.cell).read()}
            results[split] = {
                'problem_ids': [p.id for p in problems],
                'pass@1': [correct[p.id] for p in problems],
                'tokens': tokens,
            }
            if split == 'test':
                results[split] |= self._majority(problems[: self.config.evaluate.maj_problems])
        return results

    def _majority(self, problems: list[Problem]) -> dict:
        purpose, count = 'test-maj', self.config.evaluate.maj_samples
        tokens = self._sample(purpose, problems, count, greedy=False)
        grade_pool(self.workdir, purpose, self.cell, problems, self.task)
        drawn: dict[str, list] = {p.id: [] for p in problems}
        for grade in self.workdir.grades(purpose, self.cell).read():
            drawn[grade.problem_id].append(grade)
        sizes = [k for k in (1, 4, 8, 16) if k <= count]
        right = {str(k): [_majority_is_right(drawn[p.id], k) for p in problems] for k in sizes}
        return {'maj_problem_ids': [p.id for p in problems], 'maj@k': right, 'maj_tokens': tokens}

    def _sample(self, purpose: str, problems: list[Problem], count: int, greedy: bool) -> int:
        """Fills the pool of this model for `purpose` and returns its generated tokens."""
        requests = asking.requests(self.template, problems, self.shots, lambda _: count)
        settings = asking.settings(self.config, self.template, purpose.split('-')[0], greedy)
        settings = memory.with_slots(settings, self.variant, self.config.mesh, requests)
        engine = Engine(self.params, self.variant, settings, requests, self.mesh)
        store = self.workdir.pool(purpose, self.cell)
        asking.store_prompt(store.directory, self.template, self.shots)
        fill_pool(store, engine, requests, text=self.template.text, model=self.cell)
        return sum(store.table().column('num_tokens').to_pylist())


def _majority_is_right(grades: list[Grade], k: int) -> int:
    """1 if the majority answer of the first k samples is the gold one."""
    winner = votes.majority_at([grade.answer for grade in grades], k)
    return int(any(grade.correct for grade in grades[:k] if grade.answer == winner))
