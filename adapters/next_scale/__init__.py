"""Generators that draw one scale of tokens after the other."""
