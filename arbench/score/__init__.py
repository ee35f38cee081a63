"""Scoring images: one pass over them, features kept on disk, every convention's numbers from those."""
