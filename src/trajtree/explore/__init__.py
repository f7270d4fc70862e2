"""Exploration: playing one episode, which episodes are played and where they branch, and retries after a fault."""
