"""A small package, installed by the tests into a folder of its own: a task, models that work, and models that fail."""
