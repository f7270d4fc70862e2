"""Statistics of evaluated rows: works on numbers and trajectories, independent of models and files."""
