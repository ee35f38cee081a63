"""Scoring images: one pass over them, features kept on disk, every convention's numbers from those."""

from ..callable_package import make_callable

make_callable(__name__, "arbench.front.score:score")
