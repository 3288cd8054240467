"""The trackers that the studio is measured against, each in an environment of its own."""
