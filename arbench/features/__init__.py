"""Features: recipes, weight files, networks, and the vectors of image sets on disk."""
