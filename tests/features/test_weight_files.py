"""Where weights are found, when they are refused, and what is said when they are missing."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest

from arbench.errors import CheckpointError, ConfigError, InputError, MissingWeights, UnknownName
from arbench.features.recipes import RECIPES
from arbench.features.weight_files import WEIGHTS, KnownWeights, Official, Weights, feature_weights, parse_given, sha256

CONTENT = b"numbers"
DIGEST = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def one(monkeypatch) -> KnownWeights:
    """A registry with a digest that a test can produce."""
    files = (
        Official("one.pth", "http://127.0.0.1:1/one.pth", DIGEST[:8], len(CONTENT)),
        Official("one.pb", "http://127.0.0.1:1/one.pb", ""),
    )
    entry = KnownWeights("one", "a network", "MIT", files)
    monkeypatch.setitem(WEIGHTS, "one", entry)
    return entry


NO_DIGEST = {"dinov2-vits14", "dinov2-vitb14", "dinov2-vitg14"}
"""None is published of these: they are fetched with --unverified alone."""


def test_every_recipe_finds_its_weights_in_the_registry():
    for recipe in RECIPES.values():
        for name in recipe.weights:
            assert WEIGHTS[name].licence
            assert WEIGHTS[name].files[0].url.startswith("https://")
            assert bool(WEIGHTS[name].files[0].sha256) == (name not in NO_DIGEST)


def test_digests_agree_with_the_names_of_the_files():
    for entry in WEIGHTS.values():
        for official in entry.files:
            assert all(c in "0123456789abcdef" for c in official.sha256)
            stem, _, tail = official.file.rpartition(".")[0].rpartition("-")
            if stem and len(tail) == 8 and official.file.endswith(".pth"):
                assert official.sha256.startswith(tail), official.file


def test_the_cache_is_searched_for_every_official_name(one, tmp_path):
    weights = Weights({}, tmp_path)
    assert weights.find("one") is None
    (tmp_path / "one.pb").write_bytes(b"a graph")
    found = weights.locate("one")
    assert (found.path.name, found.official) == ("one.pb", "")  # no digest is known to compare with
    (tmp_path / "one.pth").write_bytes(CONTENT)
    found = weights.locate("one")
    assert (found.path.name, found.official, found.sha256) == ("one.pth", "one.pth", DIGEST)


def test_a_damaged_file_in_the_cache_is_refused(one, tmp_path):
    (tmp_path / "one.pth").write_bytes(CONTENT[:-1])
    with pytest.raises(CheckpointError, match="damaged"):
        Weights({}, tmp_path).find("one")


def test_a_given_file_may_be_anyones_and_is_marked(one, tmp_path):
    mine = tmp_path / "mine.pth"
    mine.write_bytes(b"my own")
    found = Weights({"one": mine}, tmp_path).locate("one")
    assert found.official == ""
    assert found.sha256 == hashlib.sha256(b"my own").hexdigest()
    mine.write_bytes(CONTENT)
    assert Weights({"one": mine}, tmp_path).locate("one").official == "one.pth"


def test_a_given_path_goes_before_the_cache_and_must_exist(one, tmp_path):
    (tmp_path / "one.pth").write_bytes(CONTENT)
    with pytest.raises(InputError, match="no weight file"):
        Weights({"one": tmp_path / "nowhere.pth"}, tmp_path).find("one")


def test_stylegans_pickle_is_refused(tmp_path):
    path = tmp_path / "inception-2015-12-05.pkl"
    path.write_bytes(b"\x80\x03}q\x00.")
    with pytest.raises(CheckpointError) as caught:
        Weights({"inception": path}, tmp_path).locate("inception")
    assert "pickle" in str(caught.value)
    assert "pt_inception-2015-12-05-6726825d.pth" in caught.value.hint


def test_missing_weights_say_what_whence_and_how(tmp_path):
    with pytest.raises(MissingWeights) as caught:
        Weights({}, tmp_path).locate("dinov2-vitl14")
    message = str(caught.value)
    for part in (
        "dinov2_vitl14_pretrain.pth",
        "https://dl.fbaipublicfiles.com/",
        "Apache-2.0",
        "arbench weights fetch dinov2-vitl14",
        "--weights dinov2-vitl14=PATH",
    ):
        assert part in message


def test_given_pairs_are_parsed_and_mistakes_named(tmp_path):
    adapters = ("raster/mine", "raster/other")
    pairs = ["inception=/a/b=c.pth", "raster/mine=~/m.pth", "vgg16=v.pth"]
    given = parse_given(pairs, adapters)
    assert given == {"inception": "/a/b=c.pth", "raster/mine": str(Path.home() / "m.pth"), "vgg16": "v.pth"}
    assert feature_weights(given).given == {"inception": Path("/a/b=c.pth"), "vgg16": Path("v.pth")}
    with pytest.raises(UnknownName, match="did you mean inception"):
        parse_given(["incepton=x"], adapters)
    with pytest.raises(UnknownName, match="did you mean raster/mine"):
        parse_given(["raster/mime=x"], adapters)
    for wrong in ("inception", "inception=", "=a"):
        with pytest.raises(ConfigError, match="NAME=PATH"):
            parse_given([wrong], adapters)
    with pytest.raises(ConfigError, match="twice"):
        parse_given(["inception=a", "inception=b"], adapters)
    with pytest.raises(UnknownName):
        Weights({}, tmp_path).find("inceptoin")


def test_a_digest_is_computed_once_for_as_long_as_the_file_stays(tmp_path, monkeypatch):
    path = tmp_path / "large.pth"
    path.write_bytes(CONTENT)
    read = []
    digest = hashlib.file_digest
    monkeypatch.setattr(hashlib, "file_digest", lambda *a: read.append(1) or digest(*a))
    assert sha256(path) == sha256(path) == DIGEST
    assert len(read) == 1
    path.write_bytes(b"other, longer numbers")
    assert sha256(path) == hashlib.sha256(b"other, longer numbers").hexdigest()


def test_the_registry_imports_neither_torch_nor_a_network_client():
    code = (
        "import sys, arbench.features.weight_files; print([m for m in ('torch', 'urllib.request') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
