"""A small adapter package, installed by the tests into a folder of its own: models that work, and models that fail."""
