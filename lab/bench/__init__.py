"""Benchmarks: this system beside what a user would pick instead, measured in the same call on the same machine."""
