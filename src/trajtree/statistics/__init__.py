"""Statistics of evaluated rows: takes numbers and trajectories, knows no model and no file."""
