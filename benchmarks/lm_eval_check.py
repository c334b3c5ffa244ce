"""lm-evaluation-harness against `cosample serve`: its accuracy beside our own grading of our own greedy answers.

    python3 -m venv lm_eval_venv && lm_eval_venv/bin/pip install "lm_eval[api]"
    python -m benchmarks.lm_eval_check --workdir=runs/arithmetic --lm-eval=lm_eval_venv/bin/lm_eval [--problems=60]

The harness has an environment of its own and needs no torch; nothing is downloaded. It asks twice: `local-completions`
for the run's few-shot prompts of test problems, `local-chat-completions` for the bare questions. Printed beside are our
grades of what the engine writes without a server, and how many answers are the same text.

With lm_eval 0.4.13, 60 problems and the model strong of size=demo both say 0.3333 of the few-shot prompts and 0.4000 of
the bare questions, and all 120 answers are the same text. Multiple-choice tasks need the probabilities of a prompt
(echo), which the server does not give.
"""

import argparse
import json
import os
import subprocess
import tempfile
from pathlib import Path

from benchmarks.serve import CONFIG, start_server

# JSON is YAML.
TASK = {
    'dataset_path': 'json',
    'test_split': 'test',
    'output_type': 'generate_until',
    'doc_to_text': '{{asked}}',
    'doc_to_target': '{{answer}}',
    'filter_list': [
        {
            'name': 'last',
            'filter': [
                {'function': 'regex', 'regex_pattern': r'The answer is (-?[0-9]+)', 'group_select': -1},
                {'function': 'take_first'},
            ],
        }
    ],
    'metric_list': [{'metric': 'exact_match', 'aggregation': 'mean', 'higher_is_better': True}],
    'metadata': {'version': 1},
}


def write_task(directory: Path, name: str, rows: list[dict], stops: list[str], most: int) -> None:
    """A task of the harness: its problems as JSON lines, and what it is as YAML."""
    (directory / f'{name}.jsonl').write_text(''.join(json.dumps(row) + '\n' for row in rows))
    task = TASK | {'task': name, 'dataset_kwargs': {'data_files': {'test': str(directory / f'{name}.jsonl')}}}
    task['generation_kwargs'] = {'until': stops, 'do_sample': False, 'temperature': 0, 'max_gen_toks': most}
    (directory / f'{name}.yaml').write_text(json.dumps(task, indent=1))


def evaluate(lm_eval: str, directory: Path, name: str, kind: str, url: str, model: str) -> tuple[float, dict[str, str]]:
    """(accuracy, answers by problem) as the harness finds them."""
    path = 'chat/completions' if 'chat' in kind else 'completions'
    out = directory / f'{name}_out'
    command = [
        lm_eval, 'run', '--model', kind, '--tasks', name, '--include_path', str(directory), '--output_path', str(out),
        '--log_samples', '--model_args',
        f'model={model},base_url={url}/{path},tokenizer_backend=None,tokenized_requests=False,num_concurrent=8',
        *(['--apply_chat_template'] if 'chat' in kind else []),
    ]  # fmt: skip
    environment = os.environ | {'HF_DATASETS_OFFLINE': '1', 'HF_HUB_OFFLINE': '1', 'HF_HOME': str(directory / 'hf')}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f'lm_eval failed:\n{done.stdout[-2000:]}\n{done.stderr[-3000:]}')
    results = json.loads(next(out.rglob('results_*.json')).read_text())['results'][name]
    lines = next(out.rglob('samples_*.jsonl')).read_text().splitlines()
    answers = {row['doc']['id']: row['resps'][0][0] for row in map(json.loads, lines)}
    return results['exact_match,last'], answers


def main(args) -> None:
    from cosample_jax import config as config_lib
    from cosample_jax import memory, models, tasks
    from cosample_jax.gemma.tokenizer import Tokenizer
    from cosample_jax.grading import equivalence
    from cosample_jax.sampling import asking
    from cosample_jax.sampling.engine import Engine
    from cosample_jax.workdir import Workdir

    server, url = start_server(args.config, args.workdir, args.model)
    try:
        config, workdir = config_lib.finalize(config_lib.load(args.config)), Workdir(args.workdir)
        variant, chat, params, shots = models.load(args.model, config, workdir)
        template = tasks.template(config, Tokenizer(workdir.tokenizer_path), chat)
        problems = workdir.problems('test')[: args.problems]
        for kind in ('local-completions', 'local-chat-completions'):
            by_chat = 'chat' in kind
            shown = [] if by_chat else shots
            requests = asking.requests(template, problems, shown, lambda _: 1)
            settings = asking.settings(config, template, 'test', greedy=True)
            settings = memory.with_slots(settings, variant, config.mesh, requests)
            drawn = Engine(params, variant, settings, requests).sample(requests)
            ours = {done.problem_id: template.text(done.tokens) for done in drawn}
            if by_chat:
                ours = {problem_id: template.said(text) for problem_id, text in ours.items()}
            task = tasks.get(config.task.name)
            right = sum(equivalence.grade(task, p.answer, ours[p.id]).correct for p in problems)
            asked = {
                p.id: p.question if by_chat else template.spelled(p.question, shots).removeprefix('<bos>')
                for p in problems
            }
            rows = [{'id': p.id, 'asked': asked[p.id], 'answer': p.answer} for p in problems]
            with tempfile.TemporaryDirectory() as directory:
                name, most = kind.replace('-', '_'), config.sampling.max_new_tokens
                write_task(Path(directory), name, rows, list(template.stop_strings), most)
                theirs, answers = evaluate(args.lm_eval, Path(directory), name, kind, url, args.model)
            same = sum(ours[problem_id] == text for problem_id, text in answers.items())
            print(
                f'{kind}: lm_eval {theirs:.4f}, ours {right / len(problems):.4f} of {len(problems)} problems; '
                f'{same} answers are the same text',
                flush=True,
            )
    finally:
        server.terminate()
        server.wait()


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--config', default=CONFIG)
    parser.add_argument('--workdir', default='runs/arithmetic')
    parser.add_argument('--model', default='strong')
    parser.add_argument('--problems', type=int, default=60)
    parser.add_argument('--lm-eval', default='lm_eval', help='the command')
    main(parser.parse_args())
