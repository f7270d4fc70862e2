"""Everything on disk: trajectories, trees, JSON lines, atomic files, locks."""
