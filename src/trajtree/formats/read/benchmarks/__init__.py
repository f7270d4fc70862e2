"""Readers of the logs that benchmarks and their agents write: a score comes with the run, or in a report beside it."""
