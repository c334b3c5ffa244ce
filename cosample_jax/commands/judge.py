"""`cosample judge`: has the judges of the configuration judge the reasoning of kept solutions, or people.

    cosample judge --workdir=runs/x                           the stage: programs and models
    cosample judge --workdir=runs/x --export=DIR [--n=50]     a page and a CSV for people to judge a sample
    cosample judge --workdir=runs/x --import=annotate.csv     what they said, and how the other judges agree with it

Who judges does not learn which model wrote a solution: solutions of all models are mixed and have names that tell
nothing; which is which is kept in the workdir (`people/<purpose>.json`).
"""

import csv
import hashlib
import io
from pathlib import Path

from cosample_jax import hosts, stages
from cosample_jax.analysis import agreement, tables
from cosample_jax.errors import UserError, did_you_mean
from cosample_jax.grading import judge as judge_lib
from cosample_jax.grading import pool as pool_lib
from cosample_jax.records import UNCHECKED, VALID, WRONG, Judgment, Sample, commit, read_json, write_json
from cosample_jax.report import annotation

PER_MODEL = 50  # as many as people judged in the paper
_VERDICTS = {'valid': VALID, 'wrong': WRONG, 'unsure': UNCHECKED}


def main(args) -> None:
    """The stage, or with --export or --import what people do.

    Raises:
        UserError: nothing to judge, or a file that cannot be read; names the line.
    """
    exported, imported = args.export, getattr(args, 'import')
    if exported and imported:
        raise UserError('--export writes what people judge, --import reads it back: give one of them')
    if args.n < 0 or (args.n and not exported):
        raise UserError('--n is how many solutions of each model --export writes, at least 1')
    if not exported and not imported:
        if args.purpose:
            raise UserError('--purpose goes with --export or --import: the stage judges every pool')
        stages.execute('judge', args.config, args.workdir)
        return
    purpose = args.purpose or 'train'
    if exported:
        hosts.alone(export, args.workdir, purpose, args.config.seed, args.n or PER_MODEL, Path(exported))
    else:
        hosts.alone(read_back, args.workdir, purpose, imported)


def export(workdir, purpose: str, seed: int, count: int, directory: Path) -> None:
    """Writes annotate.html and annotate.csv: `count` kept solutions of each model, each level with its share.

    They are the first of those that a model judges, so that both have judged them. More extend fewer, under the same
    names.
    """
    problems = {problem.id: problem for problem in pool_lib.all_problems(workdir)}
    chosen: dict[str, Sample] = {}
    for model in _models(workdir, purpose):
        kept = judge_lib.kept(workdir, purpose, model)
        samples = judge_lib.selected(kept, problems, count, seed)
        print(f'{purpose}/{model}: {len(samples):,} of {len(kept):,} kept solutions; {agreement.sizes(len(samples))}')
        chosen |= {_name(seed, purpose, sample): sample for sample in samples}
    if not chosen:
        raise UserError(f'no {purpose} solution has the right answer: there is nothing to judge')
    rows = []
    for name in sorted(chosen):  # the names are hashes: this mixes the models
        problem = problems[chosen[name].problem_id]
        texts = (name, problem.question.strip(), problem.answer, chosen[name].text.strip(), '', '')
        rows.append(dict(zip(annotation.COLUMNS, texts, strict=True)))
    write_json(
        workdir.path('people', f'{purpose}.json'),
        {name: [sample.model, sample.problem_id, sample.sample_index] for name, sample in chosen.items()},
    )
    title = f'Reasoning of {len(rows)} solutions ({hashlib.sha256(repr(rows).encode()).hexdigest()[:6]})'
    commit(directory / 'annotate.html', annotation.document(title, rows).encode())
    # A spreadsheet would run a cell that begins like a formula.
    cells = [{k: f' {text}' if text[:1] in '=+@-' and text else text for k, text in row.items()} for row in rows]
    commit(directory / 'annotate.csv', b'\xef\xbb\xbf' + tables.to_csv(cells))
    print(
        f'{len(rows)} solutions to judge: open {directory / "annotate.html"}, or fill in {directory / "annotate.csv"}'
    )


def read_back(workdir, purpose: str, path: str) -> None:
    """Stores what people said, and prints the rates and how other judges agree. All or nothing.

    Rows without a verdict are left out; reading a file again, filled in further, adds the new ones.
    """
    known_as = workdir.path('people', f'{purpose}.json')
    if not known_as.exists():
        raise UserError(f'nothing of {purpose} was exported from {workdir.root}: `cosample judge --export=DIR` first')
    exported = read_json(known_as)
    said = _read(path, exported)
    by_model: dict[str, list[Judgment]] = {}
    for name, (line, verdict, note) in said.items():
        model, problem_id, index = exported[name]
        judgment = Judgment(problem_id, model, index, agreement.PEOPLE, verdict, note)
        by_model.setdefault(model, []).append(judgment)
        store = workdir.judgments(purpose, model, agreement.PEOPLE)
        there = {(j.problem_id, j.sample_index): j.verdict for j in store.read()}
        if there.get((problem_id, index), verdict) != verdict:
            raise UserError(
                f'{path} line {line}: {name} is {verdict} here and was {there[problem_id, index]} in an earlier '
                f'import: to take this file instead, remove {workdir.path("judgments", purpose)}/*/{agreement.PEOPLE}'
            )
    workdir.clear_done('analyze', 'report')
    for model, judgments in by_model.items():
        store = workdir.judgments(purpose, model, agreement.PEOPLE)
        there = store.keys()
        store.append([j for j in judgments if (j.problem_id, j.model, j.sample_index) not in there])
    print(f'{len(said)} of {len(exported)} solutions judged by people')
    _print_tables(agreement.verdicts(workdir, purpose, _models(workdir, purpose)))


def _read(path: str, exported: dict) -> dict[str, tuple[int, str, str]]:
    """name -> (line, verdict, note) of the rows that have a verdict."""
    try:
        text = Path(path).read_bytes().decode('utf-8-sig')
    except OSError as error:
        raise UserError(f'{path} cannot be read: {error.strerror}') from None
    except UnicodeDecodeError:
        raise UserError(f'{path} is not UTF-8 text: save it as CSV UTF-8') from None
    first = text.partition('\n')[0]
    reader = csv.DictReader(
        io.StringIO(text, newline=''), delimiter=';' if first.count(';') > first.count(',') else ','
    )
    missing = [name for name in ('id', 'verdict') if name not in (reader.fieldnames or ())]
    if missing:
        raise UserError(f'{path} has no column {missing[0]!r}: it must be the exported CSV with its first line')
    said: dict[str, tuple[int, str, str]] = {}
    seen: dict[str, int] = {}
    end = 1
    try:
        for row in reader:
            line, end = end + 1, reader.line_num  # a text in quotes takes several lines
            name, verdict = ((row[column] or '').strip() for column in ('id', 'verdict'))
            if name not in exported:
                raise UserError(f'{path} line {line}: no solution {name!r} was exported{did_you_mean(name, exported)}')
            if name in seen:
                raise UserError(f'{path} line {line}: {name} stands in line {seen[name]} already')
            seen[name] = line
            if verdict and verdict.lower() not in _VERDICTS:
                raise UserError(f'{path} line {line}: verdict is {verdict!r}, write valid, wrong or unsure')
            if verdict:
                said[name] = line, _VERDICTS[verdict.lower()], (row.get('note') or '').strip()
    except csv.Error as error:
        raise UserError(f'{path} line {reader.line_num}: {error}') from None
    if not said:
        raise UserError(f'{path} has no verdict yet: write valid, wrong or unsure into its column `verdict`')
    return said


def _models(workdir, purpose: str) -> list[str]:
    pools = pool_lib.pools(workdir)
    models = [model for where, model in pools if where == purpose]
    if not models:
        there = ', '.join(dict.fromkeys(where for where, _ in pools)) or 'none'
        raise UserError(f'no {purpose} samples in {workdir.root}: --purpose is one of its pools (it has {there})')
    return models


def _name(seed: int, purpose: str, sample: Sample) -> str:
    identity = repr((seed, purpose, sample.model, sample.problem_id, sample.sample_index))
    return f's-{hashlib.blake2b(identity.encode(), digest_size=5).hexdigest()}'


def _print_tables(judged: agreement.Judged) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    rates = Table('model', 'judge', 'judged', 'wrong', 'undecided', 'false positives, %', 'corrected by people, %')
    table = agreement.judges_table(judged)
    for row in table:
        undecided = row['unchecked'] + row['unparsable']
        cells = (row['model'], row['judge'], row['judged'], row['false_positives'], undecided)
        rates.add_row(*map(str, cells), _share(row, 'fpr'), _share(row, 'corrected'))
    console.print(rates)
    for judge, note in dict.fromkeys((row['judge'], row['note']) for row in table if row['note']):
        print(f'{judge} is not corrected: {note}')
    rows = agreement.agreement_table(judged)
    if not rows:
        print('no other judge has judged the same solutions: `cosample judge` first')
        return
    for row in rows:
        whose = 'all models' if row['model'] == agreement.ALL_MODELS else row['model']
        kappa = "Cohen's kappa " + (_number(row, 'kappa', 1) if row['kappa'] != '' else 'undefined (one verdict only)')
        print(
            f'{row["judge"]} against people on {whose}: {row["labelled"]} judged by both, {row["wrong_wrong"]} wrong '
            f'to both, {row["wrong_valid"]} to the judge only, {row["valid_wrong"]} to people only; {kappa}'
        )


def _share(row: dict, name: str) -> str:
    return _number(row, name, 100)


def _number(row: dict, name: str, scale: int) -> str:
    if row[name] == '':
        return '-'
    digits = 1 if scale == 100 else 2
    value, low, high = (f'{scale * row[end]:.{digits}f}' for end in (name, f'{name}_low', f'{name}_high'))
    return f'{value} ({low} to {high})'
