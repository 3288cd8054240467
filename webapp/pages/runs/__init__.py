"""The pages about runs: the list, one run, launching, the queue."""
