"""Exploration: episodes, and how many are played, where they start and what survives a fault."""
