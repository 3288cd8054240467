"""Post-training as a plain Python library: methods, data formats and the run directory."""

__version__ = "0.1.0"
