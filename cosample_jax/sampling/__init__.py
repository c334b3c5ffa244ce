"""The sampler: many samples of many problems that share a prompt prefix. Token ids only, except in `pool`."""
