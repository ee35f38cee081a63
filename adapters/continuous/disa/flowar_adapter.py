"""DiSA on FlowAR: its own class, with fewer flow steps at later scales."""

from __future__ import annotations

from ...next_scale.flowar.adapter import FlowAR


class DiSAFlowAR(FlowAR):
    """FlowAR's `Generator`, natively annealed."""
