"""Models: where weights come from, how messages become tokens, and memory. Shared by playing and training."""
