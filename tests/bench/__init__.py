"""Figures against peers and limits: `make bench`, or `python -m tests.bench`."""
