"""DiSA on xAR: its own class, with fewer flow steps in later cells."""

from __future__ import annotations

from ..xar.adapter import XAR


class DiSAXAR(XAR):
    """xAR's `Generator`, natively annealed."""
