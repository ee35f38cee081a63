"""The base of every model on disk: frozen, unknown keys refused, no NaN or infinity."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict


def _one_name(name: str) -> str:
    if name in ("", ".", "..") or any(char in name for char in "/\\\0"):
        raise ValueError(f"{name!r:.60} is not the name of a file: it may lead out of its folder")
    return name


FileName = Annotated[str, AfterValidator(_one_name)]
"""What becomes a file or folder beside others: files of other people hold them, so that it never is a path."""


class Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, protected_namespaces=())

    def plain(self) -> dict[str, Any]:
        """The model as JSON-compatible Python values."""
        return self.model_dump(mode="json")


class Kept(Frozen):
    """What arbench has written, this version or a later one of the same schema: keys that are not known yet are read,
    kept and written back."""

    model_config = ConfigDict(extra="allow")


class Written(Frozen):
    """What a user writes in a suite: the docstring below a field is its description, which `arbench ls keys` shows."""

    model_config = ConfigDict(use_attribute_docstrings=True)
