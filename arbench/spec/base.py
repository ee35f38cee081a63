"""The base of every model on disk: frozen, unknown keys refused, no NaN or infinity."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict


class Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, protected_namespaces=())

    def plain(self) -> dict[str, Any]:
        """The model as JSON-compatible Python values."""
        return self.model_dump(mode="json")


class Written(Frozen):
    """What a user writes in a suite: the docstring below a field is its description, which `arbench ls keys` shows."""

    model_config = ConfigDict(use_attribute_docstrings=True)
