"""Trajectory trees: merging, forks, search and stitching. Independent of files, models and environments."""
