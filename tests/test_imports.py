"""What may import what, and what must not be imported early: read from the sources and from fresh interpreters."""

from __future__ import annotations

import ast
import graphlib
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HEAVY = {"torch", "numpy", "pandas", "matplotlib", "mlflow"}
READING = {"errors", "limits", "json_text", "npy_files", "pickle_text"}
"""How files of strangers are read."""
BASE = {
    "offered",
    "callable_package",
    "checkpoints",
    "spec",
    "registry",
    "protocols",
    "seeds",
    "images",
    "weights",
    "weight_parts",
    "adapter_code",
    "files",
    "remote",
    "gallery",
    *READING,
}
WRITERS = {"journal", "table", "artifacts"}
"""What a run and a folder of scores are made of, beside the results."""

# part -> the parts of arbench that it may import, the lowest first: a part imports only what stands above it
ALLOWED = {
    "errors": set(),
    "callable_package": set(),
    "offered": set(),
    "limits": {"errors"},
    "json_text": set(),
    "pickle_text": {"limits"},
    "npy_files": {"limits", "errors"},
    "spec": {"errors", "limits", "json_text", "offered"},
    "files": {"errors"},
    "kept_systems": {"spec", "errors", "files"},
    "registry": {"spec", "errors", "offered", "kept_systems"},
    "protocols": {"spec", "errors"},
    "remote": {"files", "errors"},
    "checkpoints": {"spec", "remote", "errors", "limits", "pickle_text"},
    "seeds": {"spec", "errors"},
    "images": {"spec", *READING},
    "weights": {"spec", "errors", "checkpoints"},
    "weight_parts": {"spec", "errors", "registry", "checkpoints", "files", "weights"},
    "adapter_code": {"spec", "registry", "files"},
    "journal": {"files", "json_text", "errors"},
    "terminal": {"errors"},
    "gallery": {"images", *READING},
    "artifacts": {"spec", "gallery", "images", *READING},
    "data": {"spec", "images", "files", "remote", "checkpoints", *READING},
    "kernel_choice": set(),
    "measure": {"spec", "errors", "registry", "protocols", "files", "kernel_choice"},
    "features": {"data", "measure", *BASE},
    "metrics": {"data", "measure", "features", *BASE},
    "evaluate": {"data", "measure", "features", "metrics", *BASE},
    "tasks": {"data", "measure", "features", "metrics", "evaluate", *BASE},
    "track": {"spec", "registry", "artifacts", "remote", *READING},
    "report": {"spec", "registry", "gallery", "artifacts", "files", "journal", *READING},
    "table": {"spec", "errors", "files", "report"},  # the wide table has the report's columns
    "captions": {"data", "errors", "protocols", "files"},
    "run": {
        "data",
        "measure",
        "features",
        "metrics",
        "evaluate",
        "tasks",
        "track",
        "report",
        "terminal",
        *WRITERS,
        *BASE,
    },
    "score": {"data", "measure", "features", "metrics", "evaluate", "tasks", "captions", "report", *WRITERS, *BASE},
    "compare": {"data", "features", "metrics", "evaluate", "report", "artifacts", "journal", *BASE},  # never torch
    "front": {
        "compare",
        "terminal",
        "data",
        "measure",
        "features",
        "evaluate",
        "tasks",
        "report",
        "run",
        "score",
        "table",
        *BASE,
    },
    "check": {"spec", "errors", "registry", "protocols", "seeds", "weights", "weight_parts", "measure"},
    "parity": {"spec", "errors", "registry", "protocols", "seeds"},
    "adapters": {"spec", "errors", "limits", "protocols", "seeds", "images", "checkpoints", "kernel_choice"},
}


# modules of adapters/, or the folder they are in -> what they may import beside that
MORE = {
    "layers/kinds.py": {"registry"},  # the systems say what their files look like; adapters are not imported for it
    "train": {"data", "registry", "weights"},
}


def imported_names(path: Path, package: list[str]) -> list[list[str]]:
    """All imports in a file, wherever they stand in it, as absolute dotted names, split."""
    names: list[list[str]] = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names += [alias.name.split(".") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = base + (node.module.split(".") if node.module else [])
            names += [[*module, alias.name] for alias in node.names]
    return names


def imported_parts(path: Path, package: list[str]) -> set[str]:
    """First components below arbench of all imports in a file."""
    return {name[1] for name in imported_names(path, package) if name[0] == "arbench" and len(name) > 1}


def files() -> list[tuple[str, Path, list[str]]]:
    found = []
    for path in sorted((ROOT / "arbench").rglob("*.py")):
        relative = path.relative_to(ROOT).with_suffix("").parts
        found.append((relative[1], path, list(relative[:-1])))
    for path in sorted((ROOT / "adapters").rglob("*.py")):
        relative = path.relative_to(ROOT).with_suffix("").parts
        found.append(("adapters", path, ["arbench", *relative[:-1]]))
    return found


def test_the_parts_have_an_order():
    """Nothing imports itself in a circle, and nothing at all imports the command line."""
    seen = set()
    for part, allowed in ALLOWED.items():
        assert allowed <= seen, f"{part}: {sorted(allowed - seen)}"
        seen.add(part)
    assert "cli" not in seen


@pytest.mark.parametrize(("layer", "path", "package"), files(), ids=lambda value: str(value)[-40:])
def test_direction_of_imports(layer, path, package):
    if layer == "cli":  # may import everything
        return
    if layer in ("__init__", "__main__"):
        # arbench itself imports the functions that it offers when they are asked for
        assert imported_parts(path, package) <= {"cli" if layer == "__main__" else "front"}
        return
    allowed = ALLOWED[layer] | {layer, "__version__"}
    if layer == "adapters":
        allowed |= MORE.get(path.relative_to(ROOT / "adapters").as_posix(), MORE.get(path.parent.name, set()))
    assert imported_parts(path, package) <= allowed


SYSTEMS = sorted(path.parent for path in (ROOT / "adapters").glob("*/*/__init__.py"))


BUILT_ON = {
    "continuous/arinar": ("continuous/mar", "next_scale/var"),
    "continuous/disa": ("continuous/mar", "continuous/xar", "next_scale/flowar"),
    "continuous/far": ("continuous/mar",),
    "next_scale/cca_var": ("next_scale/var",),
    "next_scale/flexvar": ("next_scale/var",),
    "other/distilled_decoding": ("next_scale/var",),
    "random_order/nar": ("raster/llamagen",),
    "raster/cca_llamagen": ("raster/llamagen",),
    "raster/dar": ("raster/llamagen",),
    "raster/npp": ("raster/llamagen",),
    "tokenizers/flexvar": ("tokenizers/llamagen",),
}
"""Systems that are another's network or sampling with a part changed: what would break if that one were removed."""


@pytest.mark.parametrize("folder", SYSTEMS, ids=lambda folder: f"{folder.parent.name}/{folder.name}")
def test_a_system_stands_alone(folder):
    """It imports layers/ and its own modules; its training also train/; a generator also systems of tokenizers.

    One that is built on others says so in `BUILT_ON`.

    So a system is added, changed and removed within its folder. A generator names the class of a tokenizer whose
    network it works with; tokenizers import no other system.
    """
    own = (folder.parent.name, folder.name)
    for path in sorted(folder.glob("*.py")):
        package = ["arbench", "adapters", *own]
        for name in imported_names(path, package):
            if name[:2] != ["arbench", "adapters"]:
                continue
            area, system = name[2], tuple(name[2:4])
            trains = area == "train" and path.name == "training.py"
            tokenizes = area == "tokenizers" and folder.parent.name != "tokenizers"
            built = "/".join(system) in BUILT_ON.get("/".join(own), ())
            assert area == "layers" or system == own or trains or tokenizes or built, f"{path}: {'.'.join(name)}"


def test_what_systems_are_built_on_has_an_order():
    """No two are built on each other, and each that is listed is used."""
    order = graphlib.TopologicalSorter(BUILT_ON).static_order()
    assert set(order) <= {f"{folder.parent.name}/{folder.name}" for folder in SYSTEMS}
    for name, bases in BUILT_ON.items():
        folder = ROOT / "adapters" / name
        package = ["arbench", "adapters", *name.split("/")]
        used = {"/".join(each[2:4]) for path in folder.glob("*.py") for each in imported_names(path, package)}
        assert set(bases) <= used, name


def test_what_systems_share_imports_no_system():
    for area in ("layers", "train"):
        for path in sorted((ROOT / "adapters" / area).glob("*.py")):
            for name in imported_names(path, ["arbench", "adapters", area]):
                assert name[:2] != ["arbench", "adapters"] or name[2] in {"layers", area}, f"{path}: {'.'.join(name)}"


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
        "import arbench.compare.page",
        "import arbench.track.sink",
        "import arbench.run.plan, arbench.run.store, arbench.run.supervisor",
        "from arbench.spec.task import tasks; tasks()",
        "from arbench.evaluate.conventions import conventions; conventions()",
        "from arbench.cli.main import main; main(['ls', 'metrics', '--json'])",
        "from arbench.cli.main import main; main(['ls', 'conventions', '--json'])",
        "from arbench.cli.main import main; main(['ls', 'suites', '--json'])",
        "from arbench.cli.main import main; main(['ls', 'keys', '--json'])",
        "from arbench.cli.main import main; main(['show', 'quickstart', '--resolved'])",
        "from arbench.cli.main import main; main(['show', 'quickstart', '--set', 'settings.device=auto', '--json'])",
        "from arbench import registry, weights; [weights.find(card) for card in registry.cards().values()]",
    ],
)
def test_torch_stays_out_of_planning_reports_and_tracking(statement):
    assert "torch" not in modules_after(statement)


def test_inception_is_loaded_without_torchvision_and_the_compiler_that_it_imports():
    modules = modules_after("import arbench.features.networks.inception")
    assert "torch" in modules
    assert not modules & {"torchvision", "torch_fidelity"}


def test_systems_are_listed_without_heavy_imports():
    assert not modules_after("import arbench.registry; arbench.registry.systems()") & HEAVY


TASKS = sorted(path.parent.name for path in (ROOT / "arbench" / "tasks").glob("*/__init__.py"))


@pytest.mark.parametrize("name", TASKS)
def test_a_definition_of_a_task_imports_neither_torch_nor_its_work(name):
    code = f"import sys, arbench.tasks.{name}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    modules = set(done.stdout.split())
    assert "torch" not in modules
    assert f"arbench.tasks.{name}.work" not in modules


def test_every_task_is_a_package_with_definition_and_work():
    assert [
        *("codes", "detail", "edit", "energy", "generate", "likelihood", "memory", "objects", "perturb", "predict"),
        *("prefix", "rate", "reconstruct", "speed", "stability", "text"),
    ] == TASKS
    for name in TASKS:
        assert (ROOT / "arbench" / "tasks" / name / "work.py").is_file()
