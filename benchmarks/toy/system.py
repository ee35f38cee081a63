"""The generator's card. Imports no torch."""

from arbench.protocols import Card, System

SYSTEM = System(
    name="toy",
    cards=(
        Card(
            name="other/toy",
            kind="generator",
            family="other",
            implementation="toy.model:Toy",
            summary="three random convolutions over noise",
            resolution=32,
            condition="class",
            classes=10,
            parameters=0,
        ),
    ),
)
