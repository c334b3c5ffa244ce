"""A run as a notebook reads it. No JAX until something is generated or a figure is drawn."""

from collections.abc import Iterable, Mapping, Sequence

from ml_collections import ConfigDict

from cosample_jax import compiled, config_schema, records
from cosample_jax import config as config_lib
from cosample_jax.analysis import agreement, outcomes, quality, tables
from cosample_jax.analysis.pools import Pool
from cosample_jax.errors import UserError, did_you_mean
from cosample_jax.notebook import reading
from cosample_jax.notebook.figures import Figures
from cosample_jax.notebook.rows import Rows
from cosample_jax.workdir import Workdir

_OF_SAMPLES = ('text', 'finish', 'num_tokens')
_OF_GRADES = ('correct', 'answer', 'strict', 'symbolic')
_OF_JUDGMENTS = ('verdict', 'reason')


def open_run(workdir: str) -> 'Run':
    """The run in a directory, local or gs://, finished or not. Nothing in it is changed.

    Raises:
        UserError: there is no run, or one of another version of this package.

    >>> import cosample_jax as cs
    >>> run = cs.open_run('runs/smoke')
    >>> run.config.task.name
    'arithmetic'
    """
    compiled.keep()
    place = Workdir(workdir)
    path = place.path('config.json')
    if not path.exists():
        raise UserError(f'{workdir} is not the workdir of a run: cs.execute makes one, or `cosample run`')
    return Run(place, config_lib.finalize(config_lib.load_resolved(path)))


class Run:
    """A run, of `open_run`.

    A `purpose` is what a pool was drawn for: 'train' for the samples of the source models, 'test-greedy', 'test-maj'
    and 'functional-greedy' for those of the evaluated ones (`pools` lists them).

    Attributes:
        config: Its finalized configuration.
    """

    def __init__(self, workdir: Workdir, config: ConfigDict) -> None:
        self.config = config
        self._workdir = workdir

    def __repr__(self) -> str:
        return f'Run({str(self._workdir.root)!r})'

    @property
    def pools(self) -> Rows:
        """What was sampled: a row a pool, with who judged it.

        >>> import cosample_jax as cs
        >>> cs.open_run('runs/smoke').pools.where(purpose='train').column('model')
        ['strong', 'weak']
        """
        folder = self._workdir.path('pools')
        paths = sorted(path for purpose in folder.iterdir() for path in purpose.iterdir()) if folder.exists() else []
        rows = []
        for purpose, model in ((path.parent.name, path.name) for path in paths):
            row = {'purpose': purpose, 'model': model, 'samples': len(self._workdir.pool(purpose, model))}
            row['graded'] = len(self._workdir.grades(purpose, model))
            rows.append(row | {'judges': ', '.join(self._workdir.judges(purpose, model))})
        return Rows(sorted(rows, key=lambda row: row['purpose'] != 'train'), 'Pools')

    def problems(self, split: str = 'train') -> Rows:
        """The problems of a split: ``id``, ``level``, ``question``, ``answer``, ``solution``, ``subject``.

        UserError where the run has no such split.

        >>> import cosample_jax as cs
        >>> len(cs.open_run('runs/smoke').problems('test'))
        8
        """
        names = ('id', 'level', 'question', 'answer', 'solution', 'subject')
        return Rows(({name: getattr(p, name) for name in names} for p in self._workdir.problems(split)), split)

    def samples(self, purpose: str = 'train', model: str = '') -> Rows:
        """The samples of a pool, or of all pools of a purpose, with everything that is known of each.

        A row has the problem's ``level``, the ``gold`` answer and the sample's own ``answer``; ``correct`` and both
        engines' verdicts, ``strict`` and ``symbolic``; and for every judge a column of its name with its verdict and
        one ``<judge>_reason``. What a sample was not asked is ''.

        UserError where there is no such pool.

        >>> import cosample_jax as cs
        >>> samples = cs.open_run('runs/smoke').samples('train', 'weak')
        >>> all(row['answer'] == row['gold'] for row in samples.where(correct=True))
        True
        """
        models = [model] if model else self._models(purpose)
        if model:
            self._require(purpose, model)
        judges = sorted({judge for name in models for judge in self._workdir.judges(purpose, name)})
        known = {p.id: p for split in self._workdir.splits() for p in self._workdir.problems(split)}
        rows = []
        for name in models:
            graded = _by_key(self._workdir.grades(purpose, name), _OF_GRADES)
            judged = {j: _by_key(self._workdir.judgments(purpose, name, j), _OF_JUDGMENTS) for j in judges}
            for key, (text, finish, tokens) in _by_key(self._workdir.pool(purpose, name), _OF_SAMPLES).items():
                problem = known.get(key[0])
                row = {'problem_id': key[0], 'model': name, 'sample_index': key[1]}
                row |= {'level': problem.level if problem else 0, 'text': text}
                row |= {'gold': problem.answer if problem else ''}
                correct, answer, strict, symbolic = graded.get(key, ('',) * len(_OF_GRADES))
                row |= {'answer': answer, 'correct': correct, 'strict': strict, 'symbolic': symbolic}
                for judge in judges:
                    row[judge], row[f'{judge}_reason'] = judged[judge].get(key, ('', ''))
                rows.append(row | {'finish': finish, 'num_tokens': tokens})
        return Rows(rows, f'{purpose}: samples of {" and ".join(models)}')

    def disagreements(self, purpose: str = 'train', model: str = '') -> Rows:
        """The samples of which two say different things: two judges of the reasoning, or the two engines that compare
        answers. `between` names them; the other columns are those of `samples`.

        >>> import cosample_jax as cs
        >>> {row['between'] for row in cs.open_run('runs/smoke').disagreements()} <= {'calculator and steps'}
        True
        """
        rows = self.samples(purpose, model)
        judges = [name for name in (rows[0] if rows else {}) if f'{name}_reason' in rows[0]]
        found = []
        for row in rows:
            said = {judge: row[judge] for judge in judges if row[judge] in (records.VALID, records.WRONG)}
            between = ' and '.join(said) if len(set(said.values())) > 1 else ''
            if row['symbolic'] in ('yes', 'no') and (row['symbolic'] == 'yes') != row['strict']:
                between = '; '.join(filter(None, (between, 'strict and symbolic')))
            if between:
                found.append({'between': between} | row)
        return Rows(found, f'{purpose}: who disagrees')

    def show(self, problem_id: str, purpose: str = '', each: int = 3) -> 'reading.Reading':
        """A problem with solutions side by side, up to `each` of every model: in a notebook, to read.

        Solutions that differ in kind come first: right, right by wrong reasoning, wrong. UserError for a problem that
        the run does not have, or of which nothing was sampled.

        >>> import cosample_jax as cs
        >>> run = cs.open_run('runs/smoke')
        >>> print(run.show(run.problems()[0]['id']))  # doctest: +ELLIPSIS
        train/...
        """
        problems = {p.id: p for split in self._workdir.splits() for p in self._workdir.problems(split)}
        if problem_id not in problems:
            raise UserError(
                f'{problem_id} is none of the {len(problems):,} problems{did_you_mean(problem_id, problems)}'
            )
        split = problem_id.partition('/')[0]
        samples = self.samples(purpose or (split if self._has(split) else f'{split}-greedy'))
        return reading.Reading(problems[problem_id], samples.where(problem_id=problem_id), each)

    def coverage(self, k: int | Iterable[int] | Mapping[str, int] | None = None, purpose: str = 'train') -> Rows:
        """coverage@k, the share of problems with a right solution among k samples, with its 95% interval.

        Args:
            k: A number, several, one for each model (``{'weak': 30, 'strong': 10}``), or None for all.
            purpose: Whose pools.

        Raises:
            UserError: the pools hold fewer samples of a problem, or none that are graded.

        >>> import cosample_jax as cs
        >>> run = cs.open_run('runs/smoke')
        >>> [(row['model'], row['k']) for row in run.coverage({'weak': 3, 'strong': 1})]
        [('weak', 3), ('strong', 1)]
        """
        return self._curve('coverage', k, purpose)

    def diversity(
        self,
        k: int | Iterable[int] | Mapping[str, int] | None = None,
        purpose: str = 'train',
        computations: bool = False,
    ) -> Rows:
        """diversity@k, how many different right solutions of a problem k samples are expected to hold; `k` as in
        `coverage`. Different as texts or, with `computations`, as sequences of numbers and operators.

        >>> import cosample_jax as cs
        >>> run = cs.open_run('runs/smoke')
        >>> run.diversity(2, computations=True)[0]['k']
        2
        """
        return self._curve('diversity_skeleton' if computations else 'diversity', k, purpose)

    def false_positives(self, purpose: str = 'train') -> Rows:
        """Of every model by every judge: how many kept solutions (right answers) have wrong reasoning.

        >>> import cosample_jax as cs
        >>> sorted({row['judge'] for row in cs.open_run('runs/smoke').false_positives()})
        ['calculator', 'steps']
        """
        judged = agreement.verdicts(self._workdir, purpose, self._models(purpose))
        return Rows(tables.tidy(agreement.judges_table(judged)), f'{purpose}: false positives')

    def scores(self) -> Rows:
        """pass@1 and maj@k of every evaluated cell, base models included, mean over seeds, with 95% intervals.

        UserError where nothing was evaluated yet.

        >>> import cosample_jax as cs
        >>> sorted({row['data'] for row in cs.open_run('runs/smoke').scores()})
        ['base', 'gold', 'strong', 'weak']
        """
        return Rows(tables.tidy(outcomes.scores(self._cells(), self.config.seed)), 'Scores')

    def differences(self) -> Rows:
        """Weak data minus strong data of every trained model, budget, split and metric, paired over problems.

        UserError where nothing was evaluated yet.

        >>> import cosample_jax as cs
        >>> {row['model'] for row in cs.open_run('runs/smoke').differences()}
        {'student'}
        """
        return Rows(tables.tidy(outcomes.differences(self._cells(), self.config.seed)), 'Weak minus strong data')

    def figures(self, budgets: Mapping[str, float] | None = None, k: int = 0) -> Figures:
        """Every figure of the report, as matplotlib figures by name.

        Args:
            budgets: Other budgets than the run's, name -> samples of the strong model a problem: pools are compared
                there (the others have as many as cost the same). What was fine-tuned on stays as it is.
            k: Where curves end; 0 = where the pools do.

        Raises:
            UserError: the pools hold fewer samples, or the run was not analyzed yet.

        >>> import cosample_jax as cs
        >>> figures = cs.open_run('runs/smoke').figures(budgets={'one': 1})
        >>> figures['train_coverage'].savefig('coverage.png')
        >>> {row['budget'] for row in figures.rows['train_overlap']}
        {'one'}
        """
        from cosample_jax.report import sections
        from cosample_jax.stages import analyze, report

        documents = report.analyses(self._workdir)
        if budgets:
            models = {purpose: analyze.pool_models(self._workdir, purpose) for purpose in documents}
            documents = {p: analyze.analyze(self.config, self._workdir, p, models[p], budgets) for p in documents}
        if k:
            curves = {p: [row for row in document['curves'] if row['k'] <= k] for p, document in documents.items()}
            documents = {p: document | {'curves': curves[p]} for p, document in documents.items()}
        drawn = Figures()
        sections.sections(report.content(self.config, self._workdir, documents), drawn)
        return drawn

    def generate(self, model: str, question: str, n: int = 1) -> Rows:
        """Solutions of a base model or a fine-tuned cell: one is greedy, several are sampled as in the run.

        Args:
            model: 'weak', 'strong', 'student' (few-shot), or a cell such as 'student-weak-high-s0' (zero-shot).
            question: Your own, or the id of a problem of the run, whose answer then decides what is ``correct``.
            n: How many.

        Raises:
            UserError: no such model, or it is not trained yet.

        >>> import cosample_jax as cs
        >>> run = cs.open_run('runs/smoke')
        >>> drawn = run.generate('strong', 'Ann has 12 pens. She buys 3 more. How many pens does Ann have now?', n=2)
        >>> drawn.column('correct')
        [None, None]
        """
        from cosample_jax.commands import generate

        if n < 1:
            raise UserError(f'n is {n}: it must be at least 1')
        problems = {p.id: p for split in self._workdir.splits() for p in self._workdir.problems(split)}
        problem = problems.get(question) or generate.question(question)
        _, drawn = generate.solutions(self.config, self._workdir, model, problem, n)
        return Rows(drawn, f'{model}: {problem.question}')

    def _curve(self, metric: str, k: int | Iterable[int] | Mapping[str, int] | None, purpose: str) -> Rows:
        curves = self._curves(purpose)
        ends = {row['model']: row['k'] for row in curves}
        if k is None:
            wanted = {(row['model'], row['k']) for row in curves}
        elif isinstance(k, Mapping):
            wanted = set(k.items())
        else:
            wanted = {(model, each) for model in ends for each in ([k] if isinstance(k, int) else k)}
        for model, each in sorted(wanted):
            if model not in ends:
                raise UserError(f'k names {model!r}, which has no {purpose} pool{did_you_mean(model, ends)}')
            if not 1 <= each <= ends[model]:
                raise UserError(f'k is {each}, and the pool of {model} has {ends[model]} samples of each problem')
        columns = ('model', 'k', metric, f'{metric}_low', f'{metric}_high')
        kept = [row for row in curves if (row['model'], row['k']) in wanted]
        title = f'{purpose}: {metric.replace("_", ", ")}@k'
        return Rows(tables.tidy([{c: row[c] for c in columns} for row in kept]), title)

    def _curves(self, purpose: str) -> list[dict]:
        pools = [Pool(self._workdir, purpose, model) for model in self._models(purpose)]
        ids = [p.id for p in self._workdir.problems(purpose) if all(p.id in pool.samples for pool in pools)]
        if not ids:
            raise UserError(f'no {purpose} problem was sampled by all of {", ".join(pool.model for pool in pools)}')
        return quality.curves([pool.source(ids) for pool in pools], self.config.seed)

    def _cells(self) -> list[dict]:
        path = self._workdir.path('evaluate', 'results.json')
        if not path.exists():
            raise UserError(f'nothing was evaluated in {self._workdir.root}: cs.execute("evaluate", ...) does it')
        return records.read_json(path)['cells']

    def _has(self, purpose: str) -> bool:
        return self._workdir.path('pools', purpose).exists()

    def _models(self, purpose: str) -> list[str]:
        """Who has a pool of this purpose, the configuration's models in its order."""
        pools = self.pools
        names = pools.where(purpose=purpose).column('model')
        if not names:
            near = did_you_mean(purpose, dict.fromkeys(pools.column('purpose')))
            raise UserError(f'{self._workdir.root} has no {purpose} samples{near}')
        order = list(config_schema.MODELS)
        return sorted(names, key=lambda name: (order.index(name) if name in order else len(order), name))

    def _require(self, purpose: str, model: str) -> None:
        names = self._models(purpose)
        if model not in names:
            raise UserError(f'{model!r} has no {purpose} samples{did_you_mean(model, names)}')


def _by_key(store: records.Store, columns: Sequence[str]) -> dict[tuple, tuple]:
    """(problem id, index) -> the values of these columns."""
    table = store.table(columns)
    rows = zip(*(table.column(name).to_pylist() for name in ('problem_id', 'sample_index', *columns)), strict=True)
    return {row[:2]: row[2:] for row in rows}
