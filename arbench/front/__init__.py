"""arbench from Python: models, images, scores and runs as objects that show themselves in a notebook."""
