"""An hour of steady work on a real studio: `make soak`. What may not grow must not, and nothing may get slower."""
