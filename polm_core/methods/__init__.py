"""One file a method: its settings, its `run`, and the record the catalogue lists."""
