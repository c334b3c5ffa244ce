"""Fine-tuning and pretraining: packed batches, a pure step, a thin resumable loop."""
