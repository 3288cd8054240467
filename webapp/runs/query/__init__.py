"""The query language of the list of runs: its syntax, what a query asks of a run, and what is offered while typing."""
