"""Generators of continuous tokens."""
