"""Benchmarks: what the toolkit costs and saves, each in a file of its own; `python -m benchmarks.all` runs them."""
