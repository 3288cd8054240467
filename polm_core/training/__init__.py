"""The steps that gradient methods share around a trainer.

`rows` reads and splits canonical rows, `encoding` turns them into tokens with the trained ones marked, `loading` and
`adapters` bring the model, `arguments` the trainer's settings, `loop` runs it, `reporting` writes what happens into
the run directory, `sampling` answers held-out prompts, `faults` turns failures into advice.

`rows` and `encoding` need no torch: the preflight check uses them too.
"""
