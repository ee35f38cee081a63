"""Distances and statistics of sets of feature vectors."""
