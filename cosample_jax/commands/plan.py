"""`cosample plan`: what a run would cost and whether it fits, before anything is spent."""

import importlib.util
import os
import sys
import time

from cosample_jax.errors import UserError
from cosample_jax.gemma.tokenizer import Tokenizer


def main(args) -> None:
    if args.show_prompt:
        _show_prompts(args.config)
        return
    if args.compile and not args.topology:
        raise UserError('--compile needs --topology, a slice such as v5e:2x4')
    if args.compile:
        if importlib.util.find_spec('libtpu') is None:
            # `make libtpu` puts it beside the environment: in it, JAX would take this machine for one with a TPU.
            sys.path.append(os.path.join(sys.prefix, 'libtpu'))
        from cosample_jax import aot  # first: it tells JAX that there is no TPU to look for
    from cosample_jax import devices, plan, plan_tables

    slice_ = devices.parse_slice(args.topology) if args.topology else None
    prediction = plan.predict(args.config, slice_, args.workdir)
    plan_tables.print_all(prediction)
    if args.compile:
        _compile(args.config, slice_, prediction['memory'], aot)
    plan.require_fit(prediction)


def _show_prompts(config) -> None:
    """What the sources are asked first: the prompt to the letter, its hash (the same for any question) and tokens."""
    from cosample_jax import cells, plan, tasks
    from cosample_jax.sampling import asking

    splits, tokenizer = tasks.build(config), plan.planning_tokenizer(config)
    problem = splits['train'][0]
    about = '' if isinstance(tokenizer, Tokenizer) else 'about '
    asked: dict[tuple, list[str]] = {}
    for source in cells.sources(config):
        asked.setdefault((config.models[source].chat, config.models[source].shots), []).append(source)
    for (chat, few_shot), sources in asked.items():
        template, shots = tasks.template(config, tokenizer, chat), splits.get('shots', []) if few_shot else []
        count = f'{about}{len(template.prompt(problem.question, shots)):,} tokens'
        print(f'{" and ".join(sources)}: {count} for {problem.id}, sha256 {asking.prompt_hash(template, shots)}')
        print(template.spelled(problem.question, shots))
        print(f'[a sample ends with {" or ".join(map(repr, template.stop_strings)) or "<end_of_turn>"}]\n')


def _compile(config, slice_, section: dict, aot) -> None:
    """One line a program: the compiler's bytes beside ours."""
    from cosample_jax import memory
    from cosample_jax.gemma.config import variant

    mesh = aot.slice_mesh(slice_, config.mesh)
    sizes = memory.Sizes(config.mesh.data, config.mesh.fsdp, config.mesh.tensor)
    for row in section['rows']:
        shape = variant(row['variant'])
        if row['stage'] == 'sampling':
            wanted = memory.Sampling(**row['shape'])
            lowered = aot.lower_sampling(shape, mesh, wanted)
            ours = memory.sampling_programs(shape, sizes, wanted)
        else:
            wanted = memory.Training(**row['shape'])
            lowered = {'train': aot.lower_train_step(shape, mesh, wanted, lora_rank=config.finetune.lora_rank)}
            ours = {'train': (row['weights'] + row['optimizer'], row['temporaries'])}
        for name, program in lowered.items():
            start = time.perf_counter()
            try:
                told = program.compile().memory_analysis()
                theirs = f'{_gib(told.argument_size_in_bytes)} and {_gib(told.temp_size_in_bytes)}'
            except RuntimeError as error:  # the compiler's own word for what does not fit
                theirs = str(error).split('\n')[0]
            print(
                f'{row["model"]} ({row["variant"]}) {name}: {time.perf_counter() - start:.1f} s; arguments and '
                f'temporaries of a chip, GiB: compiler {theirs}; ours {_gib(ours[name][0])} and {_gib(ours[name][1])}',
                flush=True,
            )


def _gib(size: int) -> str:
    return f'{size / 2**30:.3f}'
