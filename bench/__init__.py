"""Benchmarks of this project side by side with its peers and limits: `make bench`, one module each."""
