"""Recipes to start, and the pipelines that carry them out."""
