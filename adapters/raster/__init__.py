"""Generators that draw tokens in raster order."""
