"""Readers of images: folders, archives, arrays, tables, objects."""
