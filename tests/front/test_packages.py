"""`arbench.score` and `arbench.run` are packages and functions, whatever was imported first."""

from __future__ import annotations

import inspect
import pydoc
import subprocess
import sys

import pytest

import arbench


@pytest.mark.parametrize(
    "imports",
    [
        "import arbench",
        "import arbench.score.engine, arbench.run.session, arbench.compare.page",
        "from arbench import run, score, load, compare; import arbench",
        "import arbench.front.score, arbench.front.run, arbench.cli.run, arbench.cli.score, arbench",
    ],
)
def test_functions_and_packages_have_one_name(imports):
    code = f"""
{imports}
assert callable(arbench.score) and callable(arbench.run) and callable(arbench.compare)
import arbench.score.engine as engine, arbench.run.session
assert arbench.score.engine is engine and engine.score
try:
    arbench.score([], mode="quick")
except arbench.errors.UnknownName as error:
    assert "mode" in str(error), error
try:
    arbench.run("quickstrt")
except arbench.errors.UnknownName as error:
    assert "quickstart" in str(error), error
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_help_and_signature_are_the_functions():
    assert list(inspect.signature(arbench.score).parameters)[:3] == ["samples", "reference", "conventions"]
    assert next(iter(inspect.signature(arbench.run).parameters)) == "suite"
    assert list(inspect.signature(arbench.compare).parameters) == ["objects", "named"]
    shown = pydoc.plain(pydoc.render_doc(arbench.run))
    assert "Runs a suite as the command `arbench run` does" in shown
    assert "set: values of the suite to change" in shown
    assert "adapters: " in shown


def test_what_there_is():
    assert {"compare", "load", "run", "score"} <= set(dir(arbench))
    with pytest.raises(AttributeError, match="has no attribute 'scores'"):
        arbench.scores  # noqa: B018


def test_asking_for_a_function_that_is_a_package_loads_nothing_heavy():
    code = "import sys, arbench; dir(arbench); arbench.score; arbench.run; arbench.compare; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not set(done.stdout.split()) & {"torch", "numpy", "pandas", "matplotlib", "mlflow"}
