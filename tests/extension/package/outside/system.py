"""A system: two sizes of a generator of plain colours. Imports no torch."""

from arbench.protocols import Card, System

BASE = Card(
    name="other/paint",
    kind="generator",
    family="other",
    implementation="outside.model:Paint",
    summary="one colour per class",
    resolution=32,
    condition="class",
    classes=10,
    parameters=0,
)
SYSTEM = System(
    name="paint", cards=(BASE.derive(name="other/paint-small"), BASE.derive(name="other/paint-large", resolution=64))
)
