"""Trajectory trees: merging, forks, search and stitching. Nothing here knows a file, a model or an environment."""
