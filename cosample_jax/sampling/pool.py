"""The one place that samples, decodes to text, commits and resumes."""

import time
from collections.abc import Callable, Sequence

from cosample_jax import hosts, preemption
from cosample_jax.progress import Bar
from cosample_jax.records import Sample, Store
from cosample_jax.sampling.engine import Engine
from cosample_jax.sampling.policy import hash32
from cosample_jax.sampling.remote import Remote
from cosample_jax.sampling.rows import Finished
from cosample_jax.sampling.schedule import Request


def fill_pool(
    store: Store[Sample],
    engine: Engine | Remote,
    requests: Sequence[Request],
    *,
    text: Callable[[Sequence[int]], str],
    model: str,
    bar: Bar | None = None,
    commit_every: int = 2000,
    commit_seconds: float = 30.0,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Draws the requests that `store` does not have yet and appends them under `model`.

    A part is committed every `commit_every` samples or `commit_seconds` seconds, so that is what a kill can
    lose; after any other interruption nothing is lost, and SIGTERM is one: the samples that are complete are committed
    and Preempted is raised. What is drawn depends on the requests alone, so a pool filled in several attempts holds
    the same samples as one filled at once.

    Where several processes fill one pool on a common mesh, each commits the samples of its problems, in parts of its
    own; none returns before all have.

    Args:
        store: The pool.
        engine: Built for all `requests`, the ones in `store` included; or the door to a model behind an API.
        requests: All the pool is to hold.
        text: What drawn ids say.
        model: The name samples are stored under.
        bar: Advanced by one for each sample.
        commit_every: Samples in a part, at most.
        commit_seconds: Age at which a part is committed.
        clock: Seconds, for `commit_seconds`.
    """
    have = store.keys()
    hosts.wait('the pool is read')  # before anybody writes: all must miss the same samples
    missing = [r for r in requests if (r.problem_id, model, r.sample_index) not in have]
    batch: list[Sample] = []
    since = clock()

    def flush():
        nonlocal since
        # Cleared first: interrupted behind the commit, the part must not be committed once more.
        samples, since = batch.copy(), clock()
        batch.clear()
        store.append(samples)

    with preemption.watch(hosts.any_process) as preempted:
        try:
            for done in engine.sample(missing, should_stop=preempted):
                if hosts.is_mine(hash32(done.problem_id)):
                    batch.append(_sample(done, model, text))
                if bar is not None:
                    bar.advance(1, tokens=done.num_tokens)
                if len(batch) >= commit_every or clock() - since >= commit_seconds:
                    flush()
        finally:
            flush()
    hosts.wait('the pool is filled')


def _sample(done: Finished, model: str, text: Callable[[Sequence[int]], str]) -> Sample:
    return Sample(
        problem_id=done.problem_id,
        model=model,
        sample_index=done.sample_index,
        text=text(done.tokens) if done.text is None else done.text,
        tokens=done.tokens,
        finish=done.finish,
        logprob=done.logprob,
        sampling_logprob=done.sampling_logprob,
        prompt_tokens=done.prompt_tokens,
        num_tokens=done.num_tokens,
    )
