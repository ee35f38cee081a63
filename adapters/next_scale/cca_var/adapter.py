"""CCA (arXiv:2410.09347) on VAR: sampling is VAR's, natively without guidance."""

from __future__ import annotations

from ..var.adapter import VAR


class CCAVAR(VAR):
    """VAR's `Generator`, `Scores` and `Edits`, with the weights of condition contrastive alignment."""
