"""Tokenizers: images to tokens and back."""
