"""The `cosample` command: finds the verb, parses its flags, turns every mistake into one line.

The verb and all help are handled before anything heavy is imported, so `cosample --help` is immediate.
"""

import contextlib
import errno
import os
import sys
import traceback
from types import SimpleNamespace

from cosample_jax import __version__, compiled, hosts
from cosample_jax.errors import UserError, did_you_mean
from cosample_jax.preemption import Preempted
from cosample_jax.verbs import HOSTS, VERBS, Flag, Verb

_CONFIG = Flag('configuration file, with its arguments: configs/arithmetic.py:size=demo')
_WORKDIR = Flag('directory of the run, local or gs://; runs/<name of the configuration> unless given')


def main(argv: list[str] | None = None) -> int:
    """Runs one command line (without the program's name); returns the exit status.

    0 done, 2 a mistake the user can fix, 130 interrupted, 143 stopped by SIGTERM, 1 another process of the run died.
    Anything else is a bug and keeps its traceback. Of several processes all end with the same.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    try:
        return hosts.leave(_status(argv))
    except Exception:
        if hosts.joined():
            traceback.print_exc()
            return hosts.leave(1)
        raise


def _status(argv: list[str]) -> int:
    workdir = next((arg.partition('=')[2] for arg in argv if arg.startswith('--workdir=')), '')
    try:
        _dispatch(argv)
        return 0
    except UserError as error:
        return _fail(' '.join(str(error).split('\n')))
    except hosts.Unlike as error:
        _fail(str(error))
        return 1
    except KeyboardInterrupt:
        print('\ncosample: interrupted; the same command continues from here', file=sys.stderr)
        return 130
    except Preempted:
        print(
            '\ncosample: stopped by SIGTERM; what was finished is committed, the same command continues',
            file=sys.stderr,
        )
        return 143
    except BrokenPipeError:  # `cosample status | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        hosts.listen_a_moment()
        if type(error).__module__.startswith(('aiohttp.', 'gcsfs.', 'google.auth.')):
            # Not 2: who waits for this command to end may try it again.
            _fail(f'{workdir or "gs://"} cannot be reached or read: {error}; the same command continues from there')
            return 1
        if (message := _environment_message(error, workdir)) is None:
            raise
        return _fail(message)


def _dispatch(argv: list[str]) -> None:
    if not argv or argv[0] in ('help', '--help', '-h'):
        wanted = argv[1:2] if argv and argv[0] == 'help' else []
        if not argv:
            raise UserError('no verb given: `cosample --help` lists them, `cosample run` does the whole experiment')
        print(_help_verb(_verb(wanted[0])) if wanted else _help())
    elif argv[0] == '--version':
        print(f'cosample {__version__}')
    else:
        name = _verb(argv[0])
        if {'--help', '-h'} & set(argv[1:]):
            print(_help_verb(name))
        else:
            _execute(name, argv[1:])


def _verb(name: str) -> str:
    if name not in VERBS:
        if name.startswith('-'):
            raise UserError(f'the verb comes first: cosample VERB {name} ...; `cosample --help` lists the verbs')
        raise UserError(f'unknown verb {name!r}{did_you_mean(name, VERBS)}; `cosample --help` lists the verbs')
    return name


def _execute(name: str, argv: list[str]) -> None:
    import importlib

    from cosample_jax.workdir import Workdir

    verb = VERBS[name]
    args = parse_flags(name, argv)
    compiled.keep()
    with contextlib.ExitStack() as stack:
        if HOSTS[0] in verb.flags:
            _join(name, args, argv)
        if hosts.index():
            stack.enter_context(contextlib.redirect_stdout(stack.enter_context(open(os.devnull, 'w'))))
        if verb.workdir == 'name' and args.config is None:
            args.workdir = args.workdir or 'runs'
        if verb.workdir:
            root, limit = args.workdir or _default_workdir(args.config), getattr(args, 'max_spend', None)
            args.workdir = Workdir(root, process=hosts.index(), max_spend=limit)
        else:
            args.workdir = None
        if verb.workdir == 'write':
            hosts.alone(stack.enter_context, args.workdir.taken(args.config))
        elif verb.workdir == 'read' and not args.workdir.path('config.json').exists():
            raise UserError(f'{args.workdir.root} is not the workdir of a run: give --workdir, or start one')
        if verb.module:
            importlib.import_module(verb.module).main(args)
        else:
            run_stages(name, args)


def _join(name: str, args: SimpleNamespace, argv: list[str]) -> None:
    """Meets the other processes, where there are any."""
    flags = {flag: getattr(args, flag) for flag, _ in HOSTS}
    given = [flag for flag, value in flags.items() if value]
    if not given:
        hosts.join_slice(' '.join([name, *argv]))
        return
    if missing := [flag for flag in flags if flag not in given]:
        raise UserError(f'--{given[0]} needs --{missing[0]}, too: several processes take all three flags')
    if not args.process.isdigit():
        raise UserError(f'--process={args.process} is no number: they count from 0')
    own = [arg for arg in argv if arg.lstrip('-').partition('=')[0] not in flags]
    hosts.join(args.coordinator, args.processes, int(args.process), ' '.join([name, *own]))


def run_stages(name: str, args: SimpleNamespace) -> None:
    """One stage, or with 'run' all of them between a plan and a summary."""
    from cosample_jax import stages

    if name != 'run':
        stages.execute(name, args.config, args.workdir)
        return
    hosts.alone(_plan, args)
    for stage in stages.STAGES:
        stages.execute(stage, args.config, args.workdir)
    hosts.alone(_summarize, args)


def _plan(args: SimpleNamespace) -> None:
    from cosample_jax import plan, plan_tables
    from cosample_jax.records import write_json

    prediction = plan.predict(args.config)
    plan_tables.print_all(prediction)
    plan.require_fit(prediction)
    if not args.workdir.path('plan.json').exists():
        write_json(args.workdir.path('plan.json'), prediction)


def _summarize(args: SimpleNamespace) -> None:
    from cosample_jax.commands import status

    status.print_table(args.workdir)
    print(f'report: {args.workdir.path("report", "index.html")}')


def parse_flags(name: str, argv: list[str]) -> SimpleNamespace:
    """The flags of a verb as attributes, `config` finalized (None when the verb has none); UserError for any
    mistake.

    Flags are parsed by absl, overrides `--config.x.y=v` by ml_collections; the config file is loaded first,
    so that the order of flags does not matter.
    """
    from absl import flags

    verb = VERBS[name]
    known = _flags_of(verb)
    values = flags.FlagValues()
    for flag_name, flag in known.items():
        define = {
            int: flags.DEFINE_integer,
            bool: flags.DEFINE_boolean,
            str: flags.DEFINE_string,
            float: flags.DEFINE_float,
        }
        define = (define | {list: flags.DEFINE_multi_string})[flag.kind]
        define(flag_name, None, flag.help, flag_values=values)
    overrides = [arg for arg in argv if arg.lstrip('-').removeprefix('no').startswith('config.')]
    if not verb.config and overrides:
        raise UserError(f'`cosample {name}` takes no configuration, so no {overrides[0]}')
    try:
        rest = values(['cosample', *_one_value_each(argv, known)], known_only=True)[1:]
        config = None
        if verb.config:
            config = _load_config(values.config, values.workdir or '', verb.config_needed or bool(overrides))
        if config is not None:
            rest = _override(config, rest)
    except flags.Error as error:
        raise UserError(_flag_message(error)) from None
    unknown = [arg for arg in rest if arg.startswith('-') and arg != '-']
    if unknown:
        flag_name = unknown[0].lstrip('-').partition('=')[0]
        raise UserError(f'unknown flag --{flag_name}{did_you_mean(flag_name, known)}; `cosample {name} --help`')
    if rest:
        raise UserError(f'unexpected argument {rest[0]!r}: flags are written --name=value; `cosample {name} --help`')
    args = SimpleNamespace(workdir='')
    for flag_name, flag in known.items():
        value = getattr(values, flag_name)
        if flag.required and not value:
            raise UserError(f'`cosample {name}` needs --{flag_name}: {flag.help}')
        # No limit is not a limit of nothing.
        nothing = None if flag.kind is float else flag.kind()
        setattr(args, flag_name.replace('-', '_'), nothing if value is None else value)
    args.config = None
    if config is not None:
        from cosample_jax.config import finalize

        args.config = finalize(config)
    return args


def _one_value_each(argv: list[str], known: dict[str, Flag]) -> list[str]:
    """`--compare A B` as `--compare=A --compare=B`: a flag that is a list takes what follows up to the next flag."""
    spread, taking = [], ''
    for arg in argv:
        if arg.startswith('-'):
            name = arg.lstrip('-').partition('=')[0]
            taking = name if name in known and known[name].kind is list else ''
            spread.append(arg)
        elif taking:
            if spread[-1].lstrip('-') == taking:
                spread.pop()
            spread.append(f'--{taking}={arg}')
        else:
            spread.append(arg)
    return spread


def _flags_of(verb: Verb) -> dict[str, Flag]:
    known = {}
    if verb.config:
        known['config'] = _CONFIG
    if verb.workdir or verb.config:
        known['workdir'] = _WORKDIR
    return known | dict(verb.flags)


def _load_config(spec: str | None, workdir: str, needed: bool):
    """The ConfigDict of --config, or else the one an existing workdir was made with; None or UserError without."""
    from cosample_jax import config as config_lib

    if spec:
        return config_lib.load(spec)
    if workdir:
        from cosample_jax.workdir import Workdir

        path = Workdir(workdir).path('config.json')
        if path.exists():
            return config_lib.load_resolved(path)
    if not needed:
        return None
    raise UserError('--config is needed, e.g. --config=configs/arithmetic.py:size=demo (or the --workdir of a run)')


def _override(config, argv: list[str]) -> list[str]:
    """Applies --config.x.y=v to `config`; returns the arguments that are something else."""
    from absl import flags
    from ml_collections import config_flags

    from cosample_jax.config import flatten

    fields = flatten(config.to_dict())
    argv = ['--config.sampling.slots=0' if arg == '--config.sampling.slots=auto' else arg for arg in argv]
    for arg in argv:
        flag_name = arg.lstrip('-').partition('=')[0]
        if not arg.startswith('-') or not flag_name.removeprefix('no').startswith('config.'):
            continue
        field = flag_name.removeprefix('no').removeprefix('config.')
        if field not in fields:
            inside = [name for name in fields if name.startswith(f'{field}.')]
            if inside:
                raise UserError(f'--config.{field} is a group: set one of its fields, e.g. --config.{inside[0]}=...')
            near = did_you_mean(field, fields) or did_you_mean(field.split('.')[-1], [n.split('.')[-1] for n in fields])
            raise UserError(f'unknown field --config.{field}{near}')
    values = flags.FlagValues()
    argv = ['cosample', *argv]
    config_flags.DEFINE_config_dict('config', config, flag_values=values, sys_argv=argv)
    return values(argv, known_only=True)[1:]


def _flag_message(error: Exception) -> str:
    return ' '.join(str(error).split('\n')).removesuffix('.')


def _default_workdir(config) -> str:
    if config is None:
        raise UserError('--workdir is needed: the directory of the run')
    return f'runs/{config.name}'


def _environment_message(error: Exception, workdir: str) -> str | None:
    """One line for what the machine, not the program, refuses (disk full, no permission, a package that gs:// needs);
    None for anything else.
    """
    full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    if full or 'No space left on device' in str(error):  # tensorstore raises its own types
        where = getattr(error, 'filename', None) or workdir or 'the workdir'
        return f'the disk is full, writing {where}: free some space; the same command continues from there'
    if isinstance(error, ImportError) and 'gcsfs' in str(error):
        return "gs:// paths need one more package: pip install -e '.[gcs]' (the extra tpu has it, too)"
    if isinstance(error, (FileExistsError, NotADirectoryError)) and error.filename:
        return f'{error.filename}: a file is where a directory is needed: name another --workdir'
    refused = isinstance(error, OSError) and error.errno in (errno.EACCES, errno.EPERM, errno.EROFS)
    if refused and error.filename:
        return f'no permission for {error.filename} ({error.strerror})'
    return None


def _fail(message: str) -> int:
    print(f'cosample: error: {message}', file=sys.stderr)
    return 2


def _help() -> str:
    lines = [f'  {name:<11} {verb.help}' for name, verb in VERBS.items()]
    return '\n'.join(
        [
            'usage: cosample VERB [--config=FILE.py:name=value,...] [--workdir=DIR] [--config.x.y=v ...]',
            '',
            'Which model should write your training data? A whole experiment, from samples to a report.',
            'Every verb can be interrupted at any moment; the same command continues.',
            '',
            *lines,
            '',
            'cosample VERB --help tells the flags of a verb.',
            'First run:  cosample run --config=configs/arithmetic.py:size=demo --workdir=runs/arithmetic',
        ]
    )


def _help_verb(name: str) -> str:
    verb = VERBS[name]
    lines = [
        f'  --{flag_name:<9} {flag.help}{" (required)" if flag.required else ""}'
        for flag_name, flag in _flags_of(verb).items()
    ]
    if verb.config:
        lines.append('  --config.x.y=value  overrides one field of the configuration')
    return '\n'.join([f'usage: cosample {name} [flags]', '', f'  {verb.help}', '', *lines])


if __name__ == '__main__':
    sys.exit(main())
