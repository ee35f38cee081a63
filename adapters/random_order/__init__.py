"""Generators that draw tokens in any order."""
