"""Where each stage reads and writes, what is done, and which run a directory belongs to.

WORKDIR/config.json            the resolved configuration
        versions.json          the environments the run has seen, in order
        data/<split>.parquet   problems
        tokenizer/tokenizer.model
        models/<name>/         base weights
        pools/<purpose>/<model>/      grades/...      judgments/.../<judge>/      keyed parquet parts
        pools/<purpose>/<model>/prompt.json   what all samples of a pool were asked with
        finetune/<cell>/
        ledger.jsonl           what was asked of APIs, and what it cost
        done/<stage>.json      written last
"""

import contextlib
import fcntl
import functools
import importlib.metadata
import os
import platform
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import cosample_jax
from cosample_jax import config as config_lib
from cosample_jax.errors import UserError
from cosample_jax.ledger import Ledger
from cosample_jax.records import (
    Grade,
    Judgment,
    Problem,
    Sample,
    Store,
    is_remote,
    read_json,
    read_table,
    to_records,
    write_json,
    write_table,
)

_SHARD = 1000  # more than a shard has processes
_VERSIONS = (
    'jax',
    'jaxlib',
    'flax',
    'optax',
    'orbax-checkpoint',
    'numpy',
    'pyarrow',
    'math-verify',
    'sentencepiece',
)


class Workdir:
    """One run's directory, local or gs://; `process` is this host's index (it names the parts this host
    writes).
    """

    def __init__(self, root, process: int = 0, max_spend: float | None = None):
        """`max_spend` is what the API requests of the run may cost, all attempts together, in US$."""
        from etils import epath

        self.root = epath.Path(root)
        if is_remote(root):
            _list_anew()
        self._process, self._max_spend = process, max_spend

    def open(self, config) -> None:
        """Makes the directory this configuration's own, or checks that it already is.

        UserError when it holds another configuration: names the first differing fields with both values. One that was
        refused before it made anything leaves no claim.
        """
        path = self.path('config.json')
        wanted = config_lib.to_json(config)
        if path.exists() and any(self.path(room).exists() for room in ('data', 'models', 'pools', 'done')):
            found = config_lib.flatten(read_json(path))
            wanted = config_lib.flatten(wanted)
            differing = [name for name in sorted(found | wanted) if found.get(name) != wanted.get(name)]
            if differing:
                shown = ', '.join(f'{n} is {found.get(n)!r} there, {wanted.get(n)!r} here' for n in differing[:3])
                more = f' and {len(differing) - 3} more' if len(differing) > 3 else ''
                raise UserError(
                    f'{self.root} belongs to another configuration: {shown}{more}; '
                    'take another --workdir, or that configuration'
                )
        else:
            write_json(path, wanted)
        seen = read_json(self.path('versions.json')) if self.path('versions.json').exists() else []
        if not seen or seen[-1] != environment():
            write_json(self.path('versions.json'), [*seen, environment()])

    @contextlib.contextmanager
    def taken(self, config, shard: int | None = None) -> Iterator[None]:
        """Holds the directory (`lock`) and makes or checks that it is this configuration's (`open`)."""
        with self.lock(shard):
            self.open(config)
            yield

    @contextlib.contextmanager
    def lock(self, shard: int | None = None) -> Iterator[None]:
        """Holds the directory for this process's writing; UserError when another process holds it.

        Shards of the sampling, each with its number, hold it side by side; all others hold it alone.

        A POSIX record lock: the kernel drops it when the process dies, however it dies, and worker processes
        do not inherit it. An object store has no locks: there the caller's own care is needed.
        """
        if is_remote(self.root):
            yield
            return
        root = Path(os.fspath(self.root))
        root.mkdir(parents=True, exist_ok=True)
        with contextlib.ExitStack() as held:
            if shard is None:
                self._hold(held.enter_context(open(root / '.lock', 'a+')), fcntl.LOCK_EX)
            else:
                self._hold(held.enter_context(open(root / f'.lock-shard-{shard}', 'a+')), fcntl.LOCK_EX)
                self._hold(held.enter_context(open(root / '.lock', 'a+')), fcntl.LOCK_SH)
            yield

    def _hold(self, file, how: int) -> None:
        try:
            fcntl.lockf(file, how | fcntl.LOCK_NB)
        except OSError:
            file.seek(0)
            holder = file.read().strip()
            raise UserError(
                f'another cosample process ({holder}) is writing {self.root}: wait for it, or take another --workdir'
            ) from None
        file.truncate(0)
        file.write(f'pid {os.getpid()} on {platform.node()}')
        file.flush()

    def of_shard(self, shard: int) -> 'Workdir':
        """The same directory for a shard of the sampling, whose parts have names of their own."""
        return Workdir(self.root, self._process + _SHARD * (shard + 1), self._max_spend)

    def path(self, *parts: str):
        """A path inside the directory."""
        return self.root.joinpath(*parts)

    def splits(self) -> list[str]:
        """The splits that were written."""
        return sorted(path.stem for path in self.path('data').glob('*.parquet'))

    def problems(self, split: str) -> list[Problem]:
        """The problems of a split, in the order written; UserError when the split was never written."""
        path = self.path('data', f'{split}.parquet')
        if not path.exists():
            raise UserError(f'{path} is not there: run `cosample prepare` first, or the task has no {split!r} problems')
        return to_records(read_table(path, Problem, self._fix), Problem)

    def write_problems(self, split: str, problems: Sequence[Problem]) -> None:
        """Commits the problems of a split, in the order given; UserError when there are none or an id occurs
        twice.
        """
        if not problems:
            raise UserError(
                f'the {split!r} split has no problems: raise config.task.num_{split} or check the task data'
            )
        try:
            write_table(self.path('data', f'{split}.parquet'), Problem, problems)
        except ValueError as error:
            raise UserError(f'the {split!r} split is not usable: {error}') from None

    @functools.cached_property
    def ledger(self) -> Ledger:
        """What was asked of APIs; UserError in an object store."""
        return Ledger(self.path('ledger.jsonl'), self._max_spend)

    @property
    def tokenizer_path(self):
        return self.path('tokenizer', 'tokenizer.model')

    def model_dir(self, name: str):
        """Where the base weights of a model live."""
        return self.path('models', name)

    def pool(self, purpose: str, model: str) -> Store[Sample]:
        """The samples drawn from `model` for `purpose`."""
        return self._store('pools', purpose, model, Sample)

    def grades(self, purpose: str, model: str) -> Store[Grade]:
        """The grades of that pool."""
        return self._store('grades', purpose, model, Grade)

    def judgments(self, purpose: str, model: str, judge: str) -> Store[Judgment]:
        """What one judge says of that pool's reasoning."""
        return self._store('judgments', purpose, f'{model}/{judge}', Judgment)

    def judges(self, purpose: str, model: str) -> list[str]:
        """Who has judged that pool."""
        folder = self.path('judgments', purpose, model)
        return sorted(path.name for path in folder.iterdir()) if folder.exists() else []

    def allocation(self, recipe: str):
        """What the allocation of a recipe came to."""
        return self.path('allocations', f'{recipe}.json')

    def cell_dir(self, cell: str):
        """Where one fine-tuning cell keeps its checkpoints and its record."""
        return self.path('finetune', cell)

    def is_done(self, stage: str) -> bool:
        return self.path('done', f'{stage}.json').exists()

    def done_info(self, stage: str) -> dict:
        """What the stage left in its DONE marker; UserError when it has none."""
        if not self.is_done(stage):
            raise UserError(f'{stage} is not done in {self.root}: run `cosample {stage} --workdir={self.root}`')
        return read_json(self.path('done', f'{stage}.json'))

    def mark_done(self, stage: str, info: dict) -> None:
        """Marks a stage done; call it last."""
        write_json(self.path('done', f'{stage}.json'), info)

    def clear_done(self, *stages: str) -> None:
        """Takes the markers away, so that these stages look at their inputs again (finished work is kept)."""
        for stage in stages:
            self.path('done', f'{stage}.json').unlink(missing_ok=True)

    def count_attempt(self, stage: str) -> int:
        """Notes that a stage is being started; returns how many times it was since it was last done."""
        path = self.path('started', f'{stage}.json')
        attempts = (read_json(path)['attempts'] if path.exists() else 0) + 1
        write_json(path, {'attempts': attempts})
        return attempts

    def forget_attempts(self, stage: str) -> None:
        self.path('started', f'{stage}.json').unlink(missing_ok=True)

    def _store(self, room: str, purpose: str, model: str, kind: type) -> Store:
        return Store(self.path(room, purpose, model), kind, process=self._process, fix=self._fix)

    @property
    def _fix(self) -> str:
        # With a DONE marker in place the stage would be skipped and the part never made anew.
        return f'remove {self.path("done")} and run the same command again (finished work is kept)'


def _list_anew() -> None:
    """gcsfs keeps what it has listed until it writes there itself: it would not see the parts of other hosts."""
    with contextlib.suppress(ImportError):  # which epath reports when it is used, with what to install
        import fsspec.config

        fsspec.config.conf.setdefault('gcs', {})['use_listings_cache'] = False


def environment() -> dict:
    """The versions a run depends on: this package and its commit, Python, the platform, the libraries."""
    versions = {}
    for name in _VERSIONS:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    return {
        'cosample_jax': cosample_jax.__version__,
        'commit': _commit(),
        'python': platform.python_version(),
        'platform': f'{platform.system()} {platform.machine()}',
        **versions,
    }


def _commit() -> str:
    """The commit of the checkout this package runs from, with -dirty when it was changed; '' outside a
    checkout.
    """
    checkout = Path(cosample_jax.__file__).parent.parent
    if not (checkout / '.git').exists():
        return ''
    command = ['git', '-C', str(checkout), 'describe', '--always', '--dirty', '--abbrev=40', '--exclude=*']
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ''
