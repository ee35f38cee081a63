"""Running suites: plan, workers, results on disk, resume."""

from ..callable_package import make_callable

make_callable(__name__, "arbench.front.run:run")
