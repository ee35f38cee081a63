"""Metrics of image pairs."""
