"""JPEG and WebP as tokenizers without training: the bytes of a file are its tokens."""

from __future__ import annotations

from arbench.protocols import System

from .cards import CARDS

SYSTEM = System(name="image-files", cards=CARDS)
