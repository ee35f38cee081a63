"""What an adapter is given belongs to its caller: a call must leave it as it was."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping

import torch
from pydantic import BaseModel
from torch import Tensor

from ..seeds import Philox


class Given:
    """The arguments of a call by name, as they are when this is made."""

    def __init__(self, arguments: Mapping[str, object]) -> None:
        self._arguments = arguments
        self._before = {name: _kept(value) for name, value in _parts(arguments)}

    def changed(self) -> list[str]:
        """Names of what the call has changed. Tensors are restored, so that later checks see what they were given."""
        found = [(name, value) for name, value in _parts(self._arguments) if not _same(value, self._before[name])]
        for name, value in found:
            before = self._before[name]
            if isinstance(value, Tensor) and isinstance(before, Tensor) and value.shape == before.shape:
                with torch.inference_mode():
                    value.copy_(before)
        return [name for name, _ in found]


def _parts(arguments: Mapping[str, object]) -> Iterator[tuple[str, object]]:
    """The values that can be compared, by dotted name."""
    for name, value in arguments.items():
        if isinstance(value, BaseModel):
            yield from _parts({f"{name}.{field}": part for field, part in value.model_dump().items()})
        elif dataclasses.is_dataclass(value):
            fields = dataclasses.fields(value)
            yield from _parts({f"{name}.{field.name}": getattr(value, field.name) for field in fields})
        elif isinstance(value, tuple):
            yield from _parts({f"{name}[{place}]": part for place, part in enumerate(value)})
        else:
            yield name, value


def _kept(value: object) -> object:
    if isinstance(value, Tensor):
        return value.clone()
    return _drawn(value) if isinstance(value, Philox) else value


def _same(value: object, before: object) -> bool:
    if isinstance(value, Tensor) and isinstance(before, Tensor):
        return value.dtype == before.dtype and torch.equal(value, before)
    if isinstance(value, Philox) and isinstance(before, Tensor):
        return torch.equal(_drawn(value), before)
    return value == before


def _drawn(noise: Philox) -> Tensor:
    """Numbers of a stream of its own, which are other ones once the noise is of other samples."""
    return noise.uniform("arbench.check", 1)
