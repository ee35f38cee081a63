"""Every flag that a number can carry has a text: the codes are read from the source."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from arbench.evaluate.odd_files import CONVERSIONS
from arbench.run.results import RANDOM_WEIGHTS, SMALLER_BATCH
from arbench.spec.flags import FLAGS

ROOT = Path(__file__).parents[2]


def constants(node: ast.AST) -> Iterator[str]:
    """Strings below a node, but those of conditions and comparisons."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    elif isinstance(node, ast.IfExp):
        yield from constants(node.body)
        yield from constants(node.orelse)
    elif isinstance(node, ast.Dict):
        for key in node.keys:
            yield from constants(key) if key is not None else ()
    elif not isinstance(node, ast.Compare | ast.Subscript | ast.JoinedStr | ast.comprehension):
        for child in ast.iter_child_nodes(node):
            yield from constants(child)


def is_flags(node: ast.expr) -> bool:
    return isinstance(node, ast.Name) and node.id in ("flags", "codes")


def codes_in(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        keyword = isinstance(node, ast.keyword) and node.arg == "flags"
        if keyword or (isinstance(node, ast.Assign) and any(map(is_flags, node.targets))):
            yield from constants(node.value)
        elif isinstance(node, ast.Dict):
            for key, value in zip(node.keys, node.values, strict=True):
                if isinstance(key, ast.Constant) and key.value == "flags":
                    yield from constants(value)
        elif isinstance(node, ast.Call):
            if isinstance(node.func, ast.Name) and node.func.id == "Flag":
                yield from constants(node.args[0])
            elif isinstance(node.func, ast.Attribute) and (
                node.func.attr == "flagged" or (node.func.attr in ("append", "add") and is_flags(node.func.value))
            ):
                for argument in node.args:
                    yield from constants(argument)


def codes() -> dict[str, str]:
    found = {code: "evaluate/odd_files.py" for code, _ in CONVERSIONS.values()}
    found |= dict.fromkeys((RANDOM_WEIGHTS, SMALLER_BATCH), "run/results.py")
    for path in sorted((ROOT / "arbench").rglob("*.py")):
        if "cli" in path.parts:
            continue
        for code in codes_in(ast.parse(path.read_text(encoding="utf-8"))):
            if re.fullmatch(r"\w+", code):
                found.setdefault(code, path.relative_to(ROOT).as_posix())
    return found


def test_every_flag_in_the_source_has_a_text():
    assert {code: path for code, path in codes().items() if code not in FLAGS} == {}


def test_no_text_is_of_a_flag_that_is_gone():
    assert sorted(FLAGS.keys() - codes().keys()) == []


def test_the_reader_of_the_source_sees_flags():
    text = 'flags = ("a_b",) if x == "c" else ()\nf(flags=(*g, "d"))\nflags.append("e")\n'
    text += 'z.flagged(["h"])\nFlag("i", "text")'
    assert sorted(codes_in(ast.parse(text))) == ["a_b", "d", "e", "h", "i"]
