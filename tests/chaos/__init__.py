"""Real faults against a real studio: `python -m tests.chaos`, or `make chaos`.

`cluster` is the studio under attack and its worker machines, `faults` and `faults_of_files` are what is done to it,
`watch` sees which processes train what meanwhile, `checks` says what must hold afterwards, `report` writes it down.
"""
