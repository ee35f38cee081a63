"""YAML as a stranger may have written it: bounded before its aliases are written out, each fault an error."""

from __future__ import annotations

import re
from typing import Any

import yaml

from ..limits import VARIABLE, max_nodes

DEPTH = 50
"""Of lists and mappings in one another; a suite has six."""


LONE = re.compile("[\ud800-\udfff]")
BASE_8, BASE_60 = re.compile(r"[-+]?0[0-7_]*[1-7][0-7_]*"), re.compile(r"[-+]?[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?")
"""Numbers as YAML 1.1 has them, and nobody who writes them today: 064 is 52, and 1:30 is 90."""


class YamlError(ValueError):
    """What is wrong, and the line (from 1; 0 if it is not known)."""

    def __init__(self, why: str, line: int = 0) -> None:
        super().__init__(why)
        self.line = line


def parse_yaml(text: str) -> tuple[Any, yaml.Node | None]:
    """The value and its nodes, which know their lines; None for an empty text. Raises `YamlError`."""
    loader = yaml.SafeLoader("")
    try:
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        if node is None:
            return None, None
        _measure(node, {}, 0)
        return loader.construct_document(node), node
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        raise YamlError(str(getattr(error, "problem", None) or error), mark.line + 1 if mark else 0) from error
    except YamlError:
        raise
    except RecursionError:
        raise YamlError("it is nested too deeply") from None
    except (ValueError, LookupError, AttributeError, TypeError, ArithmeticError) as error:
        # a value that is none of its tag: a 13th month, `!!int x`
        raise YamlError(f"a value cannot be read: {error}") from error
    finally:
        loader.dispose()


def _measure(node: yaml.Node, known: dict[int, int], depth: int) -> int:
    """How many values `node` stands for with its aliases written out. Raises `YamlError` beyond the bounds."""
    line = node.start_mark.line + 1
    if isinstance(node, yaml.ScalarNode):
        if LONE.search(node.value):
            raise YamlError("half of a surrogate pair, which is not text", line)
        if node.tag.endswith((":int", ":float")) and (BASE_8.fullmatch(node.value) or BASE_60.fullmatch(node.value)):
            base = 60 if ":" in node.value else 8
            raise YamlError(
                f"{node.value!r:.40} is a number in base {base}: write it in base 10, or text in quotes", line
            )
        return 1
    if depth > DEPTH:
        raise YamlError(f"it is nested more than {DEPTH} deep", line)
    if id(node) in known:
        if not known[id(node)]:
            raise YamlError("an anchor contains itself", line)
        return known[id(node)]
    if isinstance(node, yaml.MappingNode):
        _refuse_twice(node)
    known[id(node)] = 0
    parts = [part for pair in node.value for part in pair] if isinstance(node, yaml.MappingNode) else node.value
    count = 1 + sum(_measure(part, known, depth + 1) for part in parts)
    if count > (bound := max_nodes()):
        raise YamlError(f"its anchors stand for more than {bound} values ({VARIABLE} / 1024)", line)
    known[id(node)] = count
    return count


def _refuse_twice(node: yaml.MappingNode) -> None:
    """Raises `YamlError` for a key that stands twice: the last would win without a word."""
    seen: dict[str, int] = {}
    for key, _ in node.value:
        if not isinstance(key, yaml.ScalarNode) or key.tag.endswith(":merge"):
            continue
        line = key.start_mark.line + 1
        if key.value in seen:
            raise YamlError(f"{key.value!r:.60} stands here and in line {seen[key.value]}: one of them is meant", line)
        seen[key.value] = line
