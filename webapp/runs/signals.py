"""What floors above hear of runs, in the transaction in which it happens: what they do on it holds or falls with it."""

from django.dispatch import Signal

# A run has ended, or was asked by a person to stop, pause or go on. Sent with `run`, whose row is locked.
run_moved = Signal()
