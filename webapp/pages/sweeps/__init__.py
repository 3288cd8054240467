"""Sweeps: the list, making one, and one's page."""
