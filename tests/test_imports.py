"""What may import what, and what must not be imported early: read from the sources and from fresh interpreters."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HEAVY = {"torch", "numpy", "pandas", "matplotlib", "mlflow"}
CORE = {"seeds", "images", "errors", "registry", "protocols", "weights", "parity"}

# layer -> the parts of arbench that it may import
ALLOWED = {
    "spec": {"errors"},
    "errors": set(),
    "registry": {"spec", "errors"},
    "protocols": {"spec", "errors"},
    "seeds": {"spec", "errors"},
    "images": {"spec", "errors"},
    "weights": {"spec", "errors"},
    "data": {"spec", *CORE},
    "measure": {"spec", *CORE},
    "features": {"spec", "data", *CORE},
    "metrics": {"spec", "data", "features", *CORE},
    "evaluate": {"spec", "data", "features", "metrics", *CORE},
    "tasks": {"spec", "data", "measure", "features", "metrics", "evaluate", *CORE},
    "captions": {"errors", "protocols"},
    "score": {"spec", "data", "measure", "features", "metrics", "evaluate", "tasks", "captions", *CORE},
    "run": {"spec", "data", "measure", "features", "metrics", "evaluate", "tasks", "track", "report", *CORE},
    "track": {"spec", "errors", "registry", "images"},
    "report": {"spec", "errors", "registry", "images"},
    "check": {"spec", "errors", "registry", "protocols", "seeds", "weights", "measure"},
    "parity": {"spec", "errors", "registry", "protocols", "seeds", "adapters"},
    "adapters": {"spec", "errors", "protocols", "seeds", "images"},
}


def imported_parts(path: Path, package: list[str]) -> set[str]:
    """First components below arbench of all imports in a file, wherever they stand in it."""
    parts: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names: list[list[str]] = []
        if isinstance(node, ast.Import):
            names = [alias.name.split(".") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = base + (node.module.split(".") if node.module else [])
            names = [[*module, alias.name] for alias in node.names]
        parts |= {name[1] for name in names if name[0] == "arbench" and len(name) > 1}
    return parts


def files() -> list[tuple[str, Path, list[str]]]:
    found = []
    for path in sorted((ROOT / "arbench").rglob("*.py")):
        relative = path.relative_to(ROOT).with_suffix("").parts
        found.append((relative[1], path, list(relative[:-1])))
    for path in sorted((ROOT / "adapters").rglob("*.py")):
        relative = path.relative_to(ROOT).with_suffix("").parts
        found.append(("adapters", path, ["arbench", *relative[:-1]]))
    return found


@pytest.mark.parametrize(("layer", "path", "package"), files(), ids=lambda value: str(value)[-40:])
def test_direction_of_imports(layer, path, package):
    if layer not in ALLOWED:  # cli may import everything; the top-level files import nothing of the rest
        assert layer in {"cli", "__init__", "__main__"}
        return
    allowed = ALLOWED[layer] | {layer, "__version__"}
    if layer == "adapters" and "train" in path.parts:
        allowed |= {"data", "registry", "metrics"}
    assert imported_parts(path, package) <= allowed


def modules_after(statement: str) -> set[str]:
    code = f"import sys\n{statement}\nprint(' '.join(sys.modules))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return {name.split(".")[0] for name in result.stdout.split()}


@pytest.mark.parametrize(
    "statement",
    [
        "import arbench",
        "import arbench.cli.main",
        "from arbench.cli.main import main; main(['--version'])",
        "from arbench.cli.main import main; main(['run', '--help'])",
    ],
)
def test_start_up_loads_nothing_heavy(statement):
    assert not modules_after(statement) & HEAVY


@pytest.mark.parametrize(
    "statement",
    [
        "import arbench.spec.suite_file, arbench.spec.cell, arbench.spec.result, arbench.registry, arbench.protocols",
        "from arbench.cli.main import main; main(['ls', 'adapters', '--json'])",
        "import arbench.report.page",
        "import arbench.track.sink",
        "import arbench.run.plan, arbench.run.store, arbench.run.supervisor",
    ],
)
def test_torch_stays_out_of_planning_reports_and_tracking(statement):
    assert "torch" not in modules_after(statement)
