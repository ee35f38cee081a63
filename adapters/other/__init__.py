"""Generators that none of the other families describes."""
