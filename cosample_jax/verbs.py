"""Every verb of the `cosample` command, its flags, and the module that does it. Imports nothing: help is immediate."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Flag:
    """A flag of a verb; its value is of `kind`, and the default is ''/0/[] unless `required`. A list is of all values
    up to the next flag.
    """

    help: str
    kind: type = str
    required: bool = False


@dataclass(frozen=True)
class Verb:
    """One verb: `module`.main(args) does it; a stage has no module of its own here (see `cli.run_stages`).

    `workdir` says what is done to the workdir: 'write' (held by this process alone), 'read', 'name' (it need not
    be there) or '' (none needed). With a workdir that already exists `--config` may be left out: it remembers
    its own; where `config_needed` is false there may be none at all.
    """

    help: str
    module: str = ''
    flags: tuple[tuple[str, Flag], ...] = ()
    config: bool = True
    config_needed: bool = True
    workdir: str = 'write'


_MAX_SPEND = ('max-spend', Flag('US$ that all API requests of the run may cost together; no limit unless given', float))
# Of the verbs that run stages. On the hosts of a TPU slice none is needed.
HOSTS = (
    ('coordinator', Flag('host:port at which process 0 listens, where several processes are one run')),
    ('processes', Flag('how many processes there are', int)),
    ('process', Flag('which of them this is, from 0')),
)

VERBS = {
    'run': Verb(
        'do the whole experiment: every stage that is not done yet, then a summary',
        flags=(_MAX_SPEND, *HOSTS),
    ),
    'prepare': Verb('make the problems, the tokenizer, and import the base models', flags=HOSTS),
    'pretrain': Verb('train the base models that the configuration wants from scratch', flags=HOSTS),
    'sample': Verb(
        'draw solutions from the weak and the strong model',
        'cosample_jax.commands.sample',
        (
            ('shard', Flag('i/n, from 0/n: draw only one part of n of the problems, side by side with the others')),
            _MAX_SPEND,
            *HOSTS,
        ),
        workdir='name',  # shards hold it side by side
    ),
    'grade': Verb('check the final answers of the sampled solutions', flags=HOSTS),
    'judge': Verb(
        'check the reasoning of the correct solutions, by programs, models or people',
        'cosample_jax.commands.judge',
        (
            ('export', Flag('directory for a page and a CSV on which people judge a sample, without seeing the model')),
            ('import', Flag('the CSV that they filled in, or that the page gave them')),
            ('n', Flag('how many solutions of each model are exported; 50 unless given', int)),
            ('purpose', Flag("the pools' purpose; train unless given")),
            _MAX_SPEND,
            *HOSTS,
        ),
    ),
    'analyze': Verb('coverage, diversity and false positives of the pools', flags=HOSTS),
    'finetune': Verb('train every model on every data set', flags=HOSTS),
    'evaluate': Verb('measure the trained models on the test problems', flags=(_MAX_SPEND, *HOSTS)),
    'report': Verb(
        'write report/index.html with its figures and tables, or compare finished runs',
        'cosample_jax.commands.report',
        (
            ('compare', Flag('workdirs of finished runs, at least two: one page on them, written to --output', list)),
            ('output', Flag('with --compare: directory of the page; runs/comparison unless given')),
            *HOSTS,
        ),
        config_needed=False,
        workdir='name',
    ),
    'forecast': Verb(
        'say from a few graded samples a problem which source to take at the full budget, or that they are too few',
        'cosample_jax.commands.forecast',
        (
            ('k', Flag("samples a problem of the dearest model, e.g. 10,100; the run's budgets unless given")),
            ('pilot', Flag('take only so many samples of each problem of the run', int)),
            (
                'input',
                Flag('JSONL file with rows of problem_id, model, samples, correct (and unique), instead of a run'),
            ),
            ('costs', Flag('with --input: cost of a sample of each model, e.g. gemma2_9b:9,gemma2_27b:27')),
            ('output', Flag('directory for forecast.json and the tables; forecast/ of the run unless given')),
        ),
        config_needed=False,
        workdir='name',
    ),
    'plan': Verb(
        'print what the budget costs by each lens, the seconds of each stage, the memory of each model',
        'cosample_jax.commands.plan',
        (
            ('topology', Flag('a TPU slice to plan for, such as v5e:2x4, instead of this machine')),
            ('show-prompt', Flag('print the prompt of each source, whole, instead', bool)),
            ('compile', Flag('ask the real TPU compiler too; needs --topology and the extra tpu', bool)),
        ),
        workdir='name',
    ),
    'doctor': Verb(
        'check that this machine, and with --config a run, is ready',
        'cosample_jax.commands.doctor',
        config_needed=False,
        workdir='name',
    ),
    'status': Verb(
        'show what is done in a workdir, also while it is being written',
        'cosample_jax.commands.status',
        config=False,
        workdir='read',
    ),
    'import': Verb(
        'bring generations from elsewhere into a pool',
        'cosample_jax.commands.import_',
        (
            ('input', Flag('JSONL file with rows of problem_id, model, sample_index, text', required=True)),
            ('task', Flag("the task, when it is not the configuration's")),
            ('model', Flag('the name of the model, when the rows do not say')),
            ('purpose', Flag("the pool's purpose; train unless given")),
        ),
    ),
    'export': Verb(
        'write the kept solutions of a source as JSONL, for any other trainer',
        'cosample_jax.commands.export',
        (
            ('data', Flag('a source (weak, strong), gold, or a recipe of the run', required=True)),
            ('budget', Flag('low or high; the first of the run unless given')),
            ('format', Flag('chat or completion; chat unless given')),
            ('output', Flag('JSONL file to write', required=True)),
        ),
        workdir='read',
    ),
    'grade-file': Verb(
        'grade a JSONL file: rows of id, completion, answer in; the same with correct out',
        'cosample_jax.commands.grade_file',
        (
            ('task', Flag('the task whose answers these are: gsm8k, math, code, ...', required=True)),
            ('input', Flag('JSONL file to read', required=True)),
            ('output', Flag('JSONL file to write', required=True)),
        ),
        config=False,
        workdir='',
    ),
    'convert': Verb(
        'turn a checkpoint into another format: ours, Hugging Face, or the official one',
        'cosample_jax.commands.convert',
        (
            ('variant', Flag('the model, e.g. gemma2_9b', required=True)),
            ('from', Flag('checkpoint to read, of any format, or a fine-tuned cell of a run', required=True)),
            ('to', Flag('directory to write', required=True)),
            ('format', Flag('cosample, huggingface or official; cosample unless given')),
            ('dtype', Flag('bfloat16 or float32; as stored unless given')),
        ),
        config=False,
        workdir='',
    ),
    'generate': Verb(
        'print solutions of a model of the run to a problem or a prompt',
        'cosample_jax.commands.generate',
        (
            ('model', Flag('weak, strong, student, or a fine-tuned cell', required=True)),
            ('problem', Flag('the id of a problem of the run')),
            ('prompt', Flag('a question of your own')),
            ('n', Flag('how many solutions; 1 unless given', int)),
        ),
        workdir='read',
    ),
    'serve': Verb(
        'answer over HTTP as the OpenAI API does, with models of the run',
        'cosample_jax.commands.serve',
        (
            ('model', Flag('weak, strong, student, fine-tuned cells: one or several; the sources unless given', list)),
            ('host', Flag('the address to listen at; 127.0.0.1, this machine alone, unless given')),
            ('port', Flag('the port to listen at; any free one unless given', int)),
            ('prompt-tokens', Flag('the longest prompt; 1024, or what the context leaves, unless given', int)),
        ),
        workdir='name',  # others may write there while it serves
    ),
}
