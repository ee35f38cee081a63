"""The cards, found through the entry point."""

from arbench.protocols import Card, Checkpoint, Sampling

BEHAVIOURS = (
    "steady", "other", "slow", "memory", "raises", "killed", "segfault", "hang", "works", "spins", "nan",
    "unsupported", "disk", "talks", "naps", "greedy", "meets",
)  # fmt: skip


def _generator(name: str, **changes: object) -> Card:
    fields = {
        "name": f"farm/{name}",
        "kind": "generator",
        "family": "other",
        "implementation": "farm.models:Model",
        "summary": name,
        "resolution": 8,
        "config": {"behaviour": name},
        "condition": "class",
        "classes": 4,
        "supports": frozenset({"temperature", "guidance"}),
        "extra": {"wobble": "how much"},
        "native": Sampling(temperature=0.5),
        "parameters": 1000,
    }
    return Card(**{**fields, **changes})


CARDS = (
    *(_generator(name) for name in BEHAVIOURS),
    _generator(
        "weighty", checkpoint=Checkpoint(file="farm-weighty.bin", source="the farm"), weights_licence="farm only"
    ),
    *(_generator(f"needs-{n}", config={"behaviour": "needs", "mib": n}) for n in (10, 40)),
    _generator("keeps-2", config={"behaviour": "keeps", "mib": 2}),
    _generator("churns", config={"behaviour": "churns"}),
    Card(
        name="farm/tok",
        kind="tokenizer",
        family="tokenizers",
        implementation="farm.models:Nothing",
        summary="a tokenizer",
        resolution=32,
        parameters=1000,
    ),
)
