"""Statistics written by arbench: read back whole, and read by the tools whose formats they are in."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from arbench.data.indexed import ArraySource
from arbench.data.sources import open_source
from arbench.data.statistics.checks import LabelCounts, SetIdentity
from arbench.data.statistics.model import StoredMoments, describe
from arbench.data.statistics.read import read_statistics
from arbench.data.statistics.write import write_statistics
from arbench.errors import InputError, StoreError, UnknownName

IDENTITY = SetIdentity(
    "imagenet-val",
    n=50_000,
    sizes=((256, 256),),
    crop="adm-center-crop-v1",
    quantisation="round",
    labels=LabelCounts(1000, 50, 50),
    labels_sorted=True,
    digest="ab" * 16,
    unordered_digest="cd" * 16,
    split="val",
)
WEIGHTS = {"inception": "6726825d" * 8}
SETTINGS = {"decoder": "pillow", "workers": "0"}


def moments(rows: NDArray[np.float32]) -> StoredMoments:
    return StoredMoments(rows.mean(0, dtype=np.float64), np.cov(rows.astype(np.float64), rowvar=False), len(rows))


def made(size: int, seed: int = 0, n: int = 500) -> StoredMoments:
    generator = np.random.default_rng(seed)
    low = generator.standard_normal((size, 8))
    return StoredMoments(generator.random(size), low @ low.T / 8 + np.diag(np.linspace(0.5, 1.5, size)), n)


POOL3, SPATIAL = made(2048), made(2023, 1)


def test_our_own_format_gives_everything_back(tmp_path: Path) -> None:
    rows = np.random.default_rng(2).random((3000, 24)).astype(np.float32)
    full, singular = moments(rows), moments(rows[:10])
    path = write_statistics(
        tmp_path / "sub" / "ref.npz",
        {"inception/tf1:pool3": full, "dinov2/dgm:cls": singular},
        IDENTITY,
        weights=WEIGHTS,
        settings=SETTINGS,
        features={"inception/tf1:pool3": rows},
    )
    read = read_statistics(path)
    assert (read.format, read.identity, read.weights, read.settings) == ("arbench", IDENTITY, WEIGHTS, SETTINGS)
    assert list(read.moments) == ["inception/tf1:pool3", "dinov2/dgm:cls"]
    for key, original in (("inception/tf1:pool3", full), ("dinov2/dgm:cls", singular)):
        np.testing.assert_array_equal(read.moments[key].mean, original.mean)
        np.testing.assert_allclose(read.moments[key].covariance, original.covariance, rtol=0, atol=1e-15)
        assert read.moments[key].n == original.n
    factor = read.moments["inception/tf1:pool3"].cholesky
    assert factor is not None
    np.testing.assert_allclose(factor @ factor.T, full.covariance, rtol=0, atol=1e-14)
    assert read.moments["dinov2/dgm:cls"].cholesky is None  # 10 vectors of 24 dimensions
    stored = read.features["inception/tf1:pool3"]
    assert (stored.n, stored.dimension) == (3000, 24)
    mapped = stored.rows()
    assert isinstance(mapped, np.memmap)
    np.testing.assert_array_equal(mapped, rows)
    shown = dict(describe(read))
    assert shown["labels"] == "1000 classes of 50 to 50 images"
    assert "Cholesky factor cached" in shown["inception/tf1:pool3"]
    assert shown["weights inception"] == WEIGHTS["inception"]


def test_the_same_statistics_give_the_same_bytes_and_no_file_is_left_beside(tmp_path: Path) -> None:
    for name in ("a.npz", "b.npz"):
        write_statistics(tmp_path / name, {"x:y": made(16)}, IDENTITY)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.npz", "b.npz"]


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = write_statistics(tmp_path / "a.npz", {"x:y": made(16)}, IDENTITY)
    before = path.read_bytes()

    class Broken:
        shape = (100, 4)

        def __getitem__(self, index: Any) -> Any:
            raise OSError("the disk is gone")

    with pytest.raises(StoreError, match="the disk is gone"):
        write_statistics(path, {"x:y": made(8)}, IDENTITY, features={"x:y": Broken()})
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def altered(path: Path, change: Any) -> Path:
    with np.load(path) as archive:
        arrays = {name: archive[name] for name in archive.files}
    change(arrays)
    np.savez(path, **arrays)
    return path


def header_with(**changes: Any) -> Any:
    def change(arrays: dict[str, Any]) -> None:
        arrays["arbench"] = np.array(json.dumps(json.loads(str(arrays["arbench"])) | changes))

    return change


def other_factor(arrays: dict[str, Any]) -> None:
    arrays["cholesky_0"] = np.linalg.cholesky(arrays["covariance_0"] + 1e-4 * np.eye(16))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (other_factor, "not that of its covariance"),
        (lambda arrays: arrays.pop("mean_0"), "or is damaged"),
        (header_with(version=2, arbench="9.0"), "later arbench \\(9.0\\)"),
        (header_with(format="other"), "or is damaged"),
        (header_with(identity={"split": "trainval"}), "or is damaged"),
        (header_with(identity={"sizes": [1]}), "or is damaged"),
        (header_with(identity=[]), "or is damaged"),
        (header_with(outputs=["x"]), "or is damaged"),
        (lambda arrays: arrays.update(arbench=np.array("[" * 100_000)), "or is damaged"),
        (lambda arrays: arrays.update(arbench=np.array("{")), "or is damaged"),
    ],
)
def test_an_altered_file_is_refused(tmp_path: Path, change: Any, message: str) -> None:
    path = altered(write_statistics(tmp_path / "a.npz", {"x:y": made(16)}, IDENTITY), change)
    with pytest.raises(InputError, match=message):
        read_statistics(path)


def test_fields_of_a_later_identity_are_passed_over(tmp_path: Path) -> None:
    path = write_statistics(tmp_path / "a.npz", {"x:y": made(16)}, IDENTITY)
    altered(path, header_with(identity={"name": "a", "colour": "red"}))
    assert read_statistics(path).identity == SetIdentity("a")


# --- In the formats of other tools


def test_adms_batch(tmp_path: Path) -> None:
    """Its evaluator reads mu, sigma, mu_s, sigma_s by name and streams arr_0, (N, H, W, 3) bytes."""
    pictures = np.random.default_rng(3).integers(0, 256, (70, 3, 8, 12), dtype=np.uint8)
    path = write_statistics(
        tmp_path / "ref.npz",
        {"inception/clean:pool3": made(4), "inception/tf1:pool3": POOL3, "inception/tf1:spatial": SPATIAL},
        IDENTITY,
        layout="adm",
        weights=WEIGHTS,
        images=ArraySource("pictures", pictures),
    )
    with np.load(path) as archive:
        assert set(archive.files) == {"arbench", "mu", "sigma", "mu_s", "sigma_s", "arr_0"}
        np.testing.assert_array_equal(archive["arr_0"], pictures.transpose(0, 2, 3, 1))
        assert (archive["mu"].dtype, archive["sigma"].dtype) == (np.float32, np.float64)
        np.testing.assert_array_equal(archive["mu"], POOL3.mean.astype(np.float32))
        np.testing.assert_array_equal(archive["sigma"], POOL3.covariance)
        np.testing.assert_array_equal(archive["sigma_s"], SPATIAL.covariance)
    read = read_statistics(path)
    assert (read.format, read.identity, read.images) == ("adm", IDENTITY, path)
    assert read.moments["inception/tf1:pool3"].n == 500  # from our header: the format itself has no place for it
    with pytest.raises(InputError, match="its header says so"):
        read_statistics(path, kind="pytorch-fid")
    source = open_source(f"npz:{path}")
    np.testing.assert_array_equal(source.load([69, 0]), pictures[[69, 0]])


def test_pytorch_fids_reader(tmp_path: Path) -> None:
    """It takes mu and sigma of an npz by name."""
    key = "inception/half-pixel:pool3"
    path = write_statistics(tmp_path / "ref.npz", {key: POOL3}, IDENTITY, layout="pytorch-fid")
    with np.load(path) as archive:
        mu, sigma = archive["mu"][:], archive["sigma"][:]
    np.testing.assert_array_equal(mu, POOL3.mean)
    np.testing.assert_array_equal(sigma, POOL3.covariance)
    read = read_statistics(path)  # nothing to say: the header tells it apart from ADM's
    assert (read.format, list(read.moments), read.identity) == ("pytorch-fid", [key], IDENTITY)


def test_clean_fids_own_reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import cleanfid
    from cleanfid.features import get_reference_statistics
    from cleanfid.fid import test_stats_exists as stats_exist

    monkeypatch.setattr(cleanfid, "__file__", str(tmp_path / "__init__.py"))
    kept = made(512)
    moments_of = {"clip-b32/clean:image": kept}
    path = tmp_path / "stats" / "photos_clean_clip_vit_b_32_custom_na.npz"
    write_statistics(path, moments_of, IDENTITY, layout="clean-fid")
    assert stats_exist("photos", "clean", "clip_vit_b_32")
    mu, sigma = get_reference_statistics("photos", "na", "clean", "clip_vit_b_32", split="custom")
    np.testing.assert_array_equal(mu, kept.mean)
    np.testing.assert_array_equal(sigma, kept.covariance)
    assert read_statistics(path).moments["clip-b32/clean:image"].n == 500


def test_torch_fidelitys_own_cache(tmp_path: Path) -> None:
    """torch-fidelity finds the file under its cache name and computes nothing."""
    from torch_fidelity.metric_fid import fid_input_id_to_statistics_cached

    class Extractor:
        def get_name(self) -> str:
            return "inception-v3-compat"

    path = tmp_path / "photos-inception-v3-compat-stat-fid-2048.pt"
    write_statistics(path, {"inception/tf1:pool3": POOL3}, IDENTITY, layout="torch-fidelity")
    cache = {"cache": True, "cache_root": str(tmp_path), "verbose": False, "input2_cache_name": "photos"}
    theirs = fid_input_id_to_statistics_cached(2, Extractor(), "2048", input2="nowhere", **cache)
    np.testing.assert_array_equal(theirs["sigma"], POOL3.covariance)
    np.testing.assert_array_equal(theirs["mu"], POOL3.mean.astype(np.float32))
    assert (theirs["mu"].dtype, theirs["sigma"].dtype) == (np.float32, np.float64)  # it asserts equal types
    assert list(read_statistics(path).moments) == ["inception/tf1:pool3"]


PT = "a-inception-v3-compat-stat-fid-2048.pt"


@pytest.mark.parametrize(
    ("name", "layout", "keys", "message"),
    [
        ("a.npz", "adm", ["inception/half-pixel:pool3", "inception/tf1:spatial"], "needs inception/tf1:pool3,"),
        ("a.npz", "adm", ["inception/tf1:pool3"], "needs inception/tf1:spatial,"),
        ("a.npz", "pytorch-fid", ["inception/tf1:pool3"], "needs inception/half-pixel:pool3,"),
        ("a_clean_custom_na.npz", "clean-fid", ["inception/tf1:pool3"], "needs inception/clean:pool3,"),
        ("a_legacy_tensorflow_custom_na.npz", "clean-fid", ["inception/clean:pool3"], "grid-sample:pool3,"),
        (PT, "torch-fidelity", ["inception/half-pixel:pool3"], "needs inception/tf1:pool3,"),
        ("a.npz", "clean-fid", ["inception/clean:pool3"], "clean-fid would not find"),
        ("A_clean_custom_na.npz", "clean-fid", ["inception/clean:pool3"], "clean-fid would not find"),
        ("a.pt", "torch-fidelity", ["inception/tf1:pool3"], "torch-fidelity would not find"),
        ("a.npz", "torch-fidelity", ["inception/tf1:pool3"], "does not end in .pt"),
        ("a.pkl", "arbench", ["inception/tf1:pool3"], "does not end in .npz"),
    ],
)
def test_what_readers_would_take_for_something_else_is_not_written(
    tmp_path: Path, name: str, layout: Any, keys: list[str], message: str
) -> None:
    with pytest.raises(InputError) as error:
        write_statistics(tmp_path / name, {key: made(4) for key in keys}, IDENTITY, layout=layout)
    assert message in str(error.value)
    assert not list(tmp_path.iterdir())


def test_what_a_layout_has_no_place_for(tmp_path: Path) -> None:
    key = "inception/half-pixel:pool3"
    images = ArraySource("a", np.zeros((1, 3, 4, 4), np.uint8))
    with pytest.raises(InputError, match="only arbench's own"):
        write_statistics(
            tmp_path / "a.npz", {key: made(4)}, IDENTITY, layout="pytorch-fid", features={key: np.zeros((3, 4))}
        )
    with pytest.raises(InputError, match="only ADM's"):
        write_statistics(tmp_path / "a.npz", {key: made(4)}, IDENTITY, layout="pytorch-fid", images=images)
    with pytest.raises(UnknownName, match="pytorch-fid"):
        write_statistics(tmp_path / "a.npz", {key: made(4)}, IDENTITY, layout="pytorchfid")  # type: ignore[arg-type]


def test_what_was_read_can_be_written_again(tmp_path: Path) -> None:
    key = "inception/half-pixel:pool3"
    source = tmp_path / "source.npz"
    np.savez(source, mu=POOL3.mean, sigma=POOL3.covariance)
    read = read_statistics(source, kind="pytorch-fid")
    again = read_statistics(write_statistics(tmp_path / "ref.npz", read.moments, read.identity))
    assert again.moments[key].n is None
    assert again.identity.name == "source"
    assert isinstance(again.moments[key], StoredMoments)
    assert again.moments[key].cholesky is not None
