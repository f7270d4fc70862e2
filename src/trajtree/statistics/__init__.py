"""Statistics of evaluated rows. Takes numbers and trajectories, knows no model and no file."""
