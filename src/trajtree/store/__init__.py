"""Everything on disk: stores of trajectories and trees, JSON lines, atomic files, locks."""
