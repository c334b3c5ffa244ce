"""Tunix: `tunix.sft.peft_trainer.PeftTrainer` with its default loss, on its Gemma 1 and 2 model with full weights.

Its best setting: the defaults. No activations are computed again, and steps are queued two deep.

What it cannot do: pack (it refuses `max_seq_token_per_tpu`), and a loss without the logits of every position. It
donates the optimizer's state and not the weights, so a step holds these twice.
"""

from benchmarks.peers import padded
from benchmarks.peers.tunix_sampler import tunix_model
from cosample_jax.gemma.config import GemmaConfig


def make(config: GemmaConfig, params, learning_rate: float):
    """`train(batches)`; the dtype is that of `params`."""
    import jax
    import optax
    from tunix.sft import peft_trainer, utils
    from tunix.sft.metrics_logger import Mode

    def model_input(batch):
        there = batch.input_tokens != 0
        return {
            'input_tokens': batch.input_tokens,
            'input_mask': batch.input_mask,
            'positions': utils.build_positions_from_mask(there),
            'attention_mask': utils.make_causal_attn_mask(there),
        }

    trainer = peft_trainer.PeftTrainer(
        tunix_model(config, params),
        optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(learning_rate, b2=0.999, weight_decay=0.0)),
        peft_trainer.TrainingConfig(eval_every_n_steps=1),  # required; nothing is there to evaluate
    ).with_gen_model_input_fn(model_input)
    trainer.is_managed_externally = True  # else a second call of `train` skips as many batches as the first has taken

    def train(batches) -> list[float]:
        with jax.numpy_rank_promotion('allow'):
            trainer.train([peft_trainer.TrainingInput(*padded(examples)) for examples in batches])
        trainer.close()  # which logs the last step
        return trainer.metrics_logger.get_metric_history('', 'loss', Mode.TRAIN)[-len(batches) :].tolist()

    return train
