"""Measuring a model: one file an evaluation, of the shape that methods have. None trains anything."""
