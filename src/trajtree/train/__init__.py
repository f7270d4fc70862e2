"""Training on trajectories and pairs: which tokens count, the losses, and transformers' Trainer around them."""
