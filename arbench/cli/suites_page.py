"""The generated parts of docs/suites.md, the packaged suites and the keys: `python -m arbench.cli.suites_page FILE`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from .. import registry
from ..data.statistics.published import PUBLISHED
from ..errors import ConfigError
from ..spec import suite_file
from ..spec.reference import built_in, keys, markdown, table
from ..spec.suite import Suite
from ..spec.task import tasks

END = "<!-- end -->"


def parts() -> dict[str, str]:
    """The generated parts of the page by the name in their marks, `<!-- generated: NAME -->` ... `<!-- end -->`."""
    return {"suites": packaged(), "keys": markdown(keys(built_in()))}


def packaged() -> str:
    """The packaged suites: name, title, what they need."""
    suites = [suite_file.read(name).suite for name in suite_file.names()]
    rows = [
        (f"`{suite.suite}`", suite.title, ", ".join(dict.fromkeys(t.task for t in suite.tasks)), _needs(suite))
        for suite in suites
    ]
    return table(("suite", "title", "tasks", "needs"), rows) + "\n"


def _needs(suite: Suite) -> str:
    """What is not in the package: checkpoints, data, and feature networks whose numbers are null without them."""
    cards = registry.matching([*suite.adapters, *suite.tokenizers])
    specs = [(tasks()[spec.task], spec) for spec in suite.tasks]
    sources = [data.source for definition, spec in specs for data in definition.data(spec)]
    networks = dict.fromkeys(name for definition, spec in specs for name in definition.weights(spec))
    found = ["checkpoints"] if any(card.checkpoint and not card.checkpoint.packaged for card in cards) else []
    found += [
        f"`{name}`" for name in dict.fromkeys([*sources, *suite.needs]) if name in PUBLISHED or name in suite.needs
    ]
    if networks:
        found.append(f"{'' if found else 'for some numbers: '}weights of {', '.join(networks)}")
    return ", ".join(found) or "nothing"


def renewed(text: str) -> str:
    """A page with its generated parts as they should be. Raises `ConfigError` for a page without a mark."""
    for name, content in parts().items():
        before, mark, rest = text.partition(f"<!-- generated: {name} -->")
        _, end, after = rest.partition(END)
        if not end:
            raise ConfigError(f"the page has no part {name!r}", "", f"put in <!-- generated: {name} --> and {END}")
        text = f"{before}{mark}\n\n{content}\n{end}{after}"
    return text


def main(arguments: Sequence[str]) -> int:
    for argument in arguments:
        path = Path(argument)
        path.write_text(renewed(path.read_text(encoding="utf-8")), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
