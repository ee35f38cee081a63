"""What changed between results: differences of two runs with intervals, and the gate of a nightly job. No torch."""

from ..callable_package import make_callable

make_callable(__name__, "arbench.front.comparison:compare")
