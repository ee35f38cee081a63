"""The vocabulary of everything on disk: frozen, strict pydantic models. Imports no torch."""
