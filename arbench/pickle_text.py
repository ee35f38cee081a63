"""What a pickle claims, read from its opcodes before any unpickler allocates for it, or hashes what it has made."""

from __future__ import annotations

import os
import pickletools
from typing import IO, NamedTuple

from .limits import VARIABLE, max_nodes

DEPTH = 500
"""Of tuples in one another; each is a step of the interpreter's own stack when it is hashed."""
_HASHED = frozenset({"TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "EMPTY_TUPLE", "FROZENSET"})
"""What is hashed by its parts, all of them again each time; lists and dicts are not hashed."""


class _Value(NamedTuple):
    """How many values a hash of it looks at, and how deep they lie."""

    size: int = 1
    depth: int = 0


_PLAIN = _Value()


def check_pickle(data: bytes | IO[bytes]) -> None:
    """Raises ValueError for a pickle that is cut short, whose table of memos is longer than itself, or with a tuple
    that stands for too many values. An open file is read from where it is, and left there.
    """
    if isinstance(data, bytes):
        _check(data, len(data))
        return
    start = data.tell()
    size = data.seek(0, os.SEEK_END) - start
    data.seek(start)
    try:
        _check(data, size)
    finally:
        data.seek(start)


def _check(data: bytes | IO[bytes], length: int) -> None:
    stack: list[_Value | None] = []  # None: a mark
    memo: dict[int, _Value | None] = {}
    bound = max_nodes()
    try:
        for opcode, argument, _ in pickletools.genops(data):
            name = opcode.name
            if "PUT" in name and isinstance(argument, int):
                # the C unpickler makes its table as long as the highest place that is named
                if argument > length:
                    raise ValueError(f"place {argument} in a table of memos, in {length} bytes")
                memo[argument] = stack[-1]
            elif name == "MEMOIZE":
                memo[len(memo)] = stack[-1]
            elif "GET" in name and isinstance(argument, int):
                stack.append(memo[argument])
            elif name == "MARK":
                stack.append(None)
            elif name == "DUP":
                stack.append(stack[-1])
            else:
                made = _made(name, _taken(opcode, stack))
                if made.size > bound or made.depth > DEPTH:
                    raise ValueError(f"a tuple that stands for more than {bound} values, or {DEPTH} deep ({VARIABLE})")
                stack += [made] * len(opcode.stack_after)
    except (IndexError, KeyError) as error:
        raise ValueError("it takes what it has not made") from error


def _taken(opcode: pickletools.OpcodeInfo, stack: list[_Value | None]) -> list[_Value]:
    """What an opcode takes off the stack: all down to a mark, and what is named before it."""
    taken: list[_Value] = []
    if opcode.name == "OBJ":  # its class is the first of the slice
        while stack.pop() is not None:
            pass
        return taken
    for what in reversed(opcode.stack_before):
        if what is pickletools.stackslice:
            while (top := stack.pop()) is not None:
                taken.append(top)
        elif what is not pickletools.markobject:
            taken.append(stack.pop() or _PLAIN)
    return taken


def _made(name: str, parts: list[_Value]) -> _Value:
    if name not in _HASHED or not parts:
        return _PLAIN
    return _Value(1 + sum(part.size for part in parts), 1 + max(part.depth for part in parts))
