"""Every cache and what is in its key: each ingredient is changed, and another place or another number comes out."""

from __future__ import annotations

import ast
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from arbench import registry
from arbench.adapter_code import code_of
from arbench.data import prompts
from arbench.data.digest import digest_of
from arbench.data.reading import Reading, fingerprint
from arbench.data.statistics import kept
from arbench.features import weight_files
from arbench.features.extract import Job
from arbench.features.feature_folder import FeatureFolder
from arbench.features.feature_set import Output
from arbench.files import state_of
from arbench.score import generated
from arbench.score.generated import mark_of
from arbench.spec.task import Data
from arbench.tasks.generate import floor

ROOT = Path(__file__).parents[2]

# ---- caches in a process ---------------------------------------------------------------------------------------------

INSTALLED = "what is installed, which does not change while a process lives"
STATE = "the file's path and state: size, times and number"
PURE = "all that the result is made of"
CACHES = {
    "adapters/hybrid/acdit/solver.py": PURE,
    "adapters/layers/decode_kernel.py:_multiprocessors": INSTALLED,
    "adapters/layers/order.py:halton_cells": PURE,
    "adapters/random_order/halton/sampling.py": PURE,
    "adapters/tokenizers/diffusers_folder/cards.py:_card": "the name, and path and state of its config.json",
    "adapters/tokenizers/exported_pair/cards.py:_card": "the name, and path and state of its three files",
    "adapters/train/diffusion.py": PURE,
    "arbench/adapter_code.py:_digest": "path and state of every file",
    "arbench/data/digest.py:_digest_of": "the source, how it is read, and the fingerprint of its files",
    "arbench/data/digest.py:_opened": "the source, how it is read, and the fingerprint of its files",
    "arbench/data/prompts.py:_shape": STATE,
    "arbench/data/readers/archives.py:_opened_once": "the path, in a process that lives as long as one reading of it",
    "arbench/data/readers/listing.py:imagenet_ids": INSTALLED,
    "arbench/data/readers/mnist.py:_images": INSTALLED,
    "arbench/data/statistics/kept.py:_digest": STATE,
    "arbench/evaluate/conventions.py:conventions": INSTALLED,
    "arbench/features/networks/pil_resize.py": "all that the result is made of, and Pillow, which is installed",
    "arbench/features/networks/pixels.py:constant": PURE,
    "arbench/features/networks/resize.py": PURE,
    "arbench/features/weight_files.py:_digest": STATE,
    "arbench/measure/memory.py:_trim": INSTALLED,
    "arbench/measure/provenance.py": INSTALLED,
    "arbench/registry.py:_load": INSTALLED,
    "arbench/report/class_words.py:imagenet": INSTALLED,
    "arbench/report/page.py:environment": INSTALLED,
    "arbench/run/device.py": INSTALLED,
    "arbench/spec/task.py:tasks": INSTALLED,
    "arbench/spec/unit.py:cut": PURE,
    "arbench/weight_parts.py:_listed": STATE,
}
"""Function (or a file of them) -> what its key holds, or why it needs none."""


def cached_functions() -> Iterator[str]:
    for path in sorted([*(ROOT / "arbench").rglob("*.py"), *(ROOT / "adapters").rglob("*.py")]):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef):
                used = {ast.unparse(each).partition("(")[0].rpartition(".")[2] for each in node.decorator_list}
                if used & {"cache", "lru_cache"}:
                    yield f"{path.relative_to(ROOT).as_posix()}:{node.name}"


def test_every_cached_function_is_listed() -> None:
    found = set(cached_functions())
    listed = {name for name in found if name in CACHES or name.partition(":")[0] in CACHES}
    assert found - listed == set()
    assert {entry for entry in CACHES if not any(name.startswith(entry) for name in found)} == set()


def replaced(path: Path, how: str) -> None:
    """Other bytes of the same size, and the time set to what it was."""
    old = path.stat()
    data = path.read_bytes()
    other = bytes([data[0] ^ 1]) + data[1:]
    if how == "written over":
        path.write_bytes(other)
    else:
        beside = path.with_suffix(".new")
        beside.write_bytes(other)
        os.utime(beside, ns=(old.st_atime_ns, old.st_mtime_ns))
        beside.replace(path)
    os.utime(path, ns=(old.st_atime_ns, old.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (old.st_size, old.st_mtime_ns)


READS: dict[str, Callable[[Path], object]] = {
    "state_of": state_of,
    "fingerprint": lambda path: fingerprint(str(path)),
    "fingerprint of a glob": lambda path: fingerprint(f"tar:{path.parent}/*.txt"),
    "fingerprint of two": lambda path: fingerprint(f"{path},{path}"),
    "fingerprint of its folder": lambda path: fingerprint(str(path.parent)),
    "prompts of a reading": lambda path: Reading(prompts=(str(path),)).settings()["prompts"],
    "digest of weights": weight_files.sha256,
    "digest of references": kept._sha256,
    "digest of a suite's prompts": lambda path: digest_of(Data(str(path), what="prompts")),
}


@pytest.mark.parametrize("how", ["written over", "put in its place"])
@pytest.mark.parametrize("what", READS)
def test_a_file_replaced_by_one_of_the_same_size_and_time(tmp_path: Path, what: str, how: str) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"abc\ndef\n")
    before = READS[what](path)
    assert READS[what](path) == before
    replaced(path, how)
    assert READS[what](path) != before


def test_captions_of_another_shape(tmp_path: Path) -> None:
    import numpy as np
    from safetensors.numpy import save_file

    (tmp_path / "p.txt").write_text(str(tmp_path / "a.safetensors"))
    for shape in ((2, 3), (3, 2)):
        save_file({"features": np.zeros(shape, np.float32)}, tmp_path / "a.safetensors")
        assert prompts._shapes(tmp_path / "p.txt") == {shape}


# ---- features on disk ------------------------------------------------------------------------------------------------

FACTS: dict[str, Any] = {
    "source": "photos",
    "on_bad": "error",
    "limit": None,
    "crop": "none",
    "size": None,
    "column": None,
    "files": "f",
    "output": "r:o",
    "length": 4,
    "convention": "weights sha256, mode, resize",
    "shard": (0, 1),
    "extra": {},
}
OTHER: dict[str, Any] = {
    **{"source": "other", "on_bad": "skip", "limit": 5, "crop": "adm-center-crop-v1", "size": 32, "column": "image"},
    **{
        "files": "g",
        "output": "r:p",
        "length": 5,
        "convention": "other weights",
        "shard": (0, 2),
        "extra": {"lpips": 1},
    },
}


def place(facts: dict[str, Any], folder: Path) -> Path:
    settings = {name: facts[name] for name in ("on_bad", "limit", "crop", "size", "column", "files")}
    outputs = [Output(facts["output"], facts["length"], facts["convention"])]
    return FeatureFolder(folder, facts["source"], settings, facts["shard"]).place("r", outputs, facts["extra"])


@pytest.mark.parametrize("what", FACTS)
def test_the_place_of_features(tmp_path: Path, what: str) -> None:
    assert place(FACTS, tmp_path) != place({**FACTS, what: OTHER[what]}, tmp_path)


def test_a_job_takes_all_of_a_reading(tmp_path: Path) -> None:
    """Whatever `Reading` has is in the settings of its features, and so is the mark."""
    (tmp_path / "p").write_text("x")
    others = {"on_bad": "skip", "limit": 5, "crop": "c", "size": 32, "column": "i", "prompts": (str(tmp_path / "p"),)}
    assert others.keys() == Reading.__dataclass_fields__.keys()
    jobs = [Job("s", Reading(), tmp_path), Job("s", Reading(), tmp_path, mark="m")]
    jobs += [Job("s", replace(Reading(), **{name: value}), tmp_path) for name, value in others.items()]  # type: ignore[arg-type]
    assert len({job.store().place("r", [Output("r:o", 4, "c")]) for job in jobs}) == len(jobs)


# ---- what is kept beside features: each ingredient is changed in tests/evaluate/test_computed.py ---------------------

KEPT_ON_DISK = {
    "arbench/evaluate/known_reference.py:moments": "the vectors",
    "arbench/evaluate/known_reference.py:kernel_sums": "the vectors, the kernel and the device",
    "arbench/evaluate/known_reference.py:radii": "the vectors, the numbers of those taken, ks, distance and device",
}
"""Function that calls `arbench.evaluate.computed.kept` -> what its key holds beside software, hardware and threads.

The deviation of fast mode is kept by `arbench.features.fast_mode`: tests/features/test_fast_mode.py changes its key.
"""


def test_all_that_is_kept_of_a_reference_is_listed() -> None:
    found = set()
    for path in (ROOT / "arbench").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef) and any(
                isinstance(each, ast.Call) and ast.unparse(each.func) == "kept" for each in ast.walk(node)
            ):
                found.add(f"{path.relative_to(ROOT).as_posix()}:{node.name}")
    assert found == set(KEPT_ON_DISK)


# ---- generators and their floor --------------------------------------------------------------------------------------


def test_the_mark_of_a_generator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights of it and of its tokenizer, cards of both."""
    name = "raster/llamagen-mini"
    card = registry.card(name)
    assert card.tokenizer is not None
    marks = [mark_of(f"generator:{name}")]
    for which in (name, card.tokenizer):
        for content in (b"1", b"2"):
            (tmp_path / "w").write_bytes(content)
            marks.append(mark_of(f"generator:{name}", {which: str(tmp_path / "w")}))
    known = registry.card
    for which in (name, card.tokenizer):
        changed = known(which).model_copy(update={"source": "elsewhere"})
        monkeypatch.setattr(registry, "card", lambda asked, w=which, c=changed: c if asked == w else known(asked))
        marks.append(mark_of(f"generator:{name}"))
    monkeypatch.setattr(registry, "card", known)
    monkeypatch.setattr(generated, "code_of", lambda card: "other code")
    marks.append(mark_of(f"generator:{name}"))
    assert len(set(marks)) == len(marks)


@pytest.mark.parametrize("form", ["module", "package", "package below"])
def test_the_code_of_an_adapter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str) -> None:
    """Any Python file of its package, also one replaced by another of the same size and time."""
    name = f"its_adapter_{form.replace(' ', '_')}"
    files = {"module": f"{name}.py", "package": f"{name}/blocks.py", "package below": f"{name}/a/b/blocks.py"}
    path = tmp_path / files[form]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("X = 1\n")
    if form != "module":
        (tmp_path / name / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    implementation = f"{name}:Sampler" if form == "module" else f"{name}.adapter:Sampler"
    card = registry.card("raster/llamagen-mini").derive(name="its/own", implementation=implementation)
    before = code_of(card)
    assert before == code_of(card) != ""
    replaced(path, "written over")
    assert code_of(card) != before
    assert code_of(card.derive(implementation="no_such_package:Sampler", tokenizer=None)) == ""


def test_the_mark_of_a_floor(monkeypatch: pytest.MonkeyPatch) -> None:
    class Thing:
        def __init__(self, **facts: Any) -> None:
            self.__dict__.update(facts)

    def mark(**facts: Any) -> str:
        given = {
            "card": "a",
            "weights": "w",
            "code": "c",
            "dtype": "f",
            "compile": False,
            "device": "cpu",
            "images": "i",
            "files": "x",
        }
        given |= facts
        card = Thing(name="t", plain=lambda: {"card": given["card"]})
        settings = Thing(dtype=given["dtype"], compile=given["compile"])
        cell = Thing(weights_sha256={"t": given["weights"]}, settings=settings, data={"s": given["images"]})
        monkeypatch.setattr(floor, "fingerprint", lambda source: given["files"])
        monkeypatch.setattr(floor, "code_of", lambda card: given["code"])
        monkeypatch.setattr(floor, "BATCH", given.get("batch", 64))
        return floor._mark(cell, Thing(card=card), "s", given["device"])  # type: ignore[arg-type]

    others = {
        "card": "b",
        "weights": "v",
        "code": "d",
        "dtype": "h",
        "compile": True,
        "device": "cuda",
        "images": "j",
        "files": "y",
    }
    marks = [mark(), *(mark(**{name: value}) for name, value in others.items()), mark(batch=32)]
    assert len(set(marks)) == len(marks)
