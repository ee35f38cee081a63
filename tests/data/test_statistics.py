"""Reference statistics: every format in circulation is read for what it is, nothing ambiguous or hostile is read."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from arbench.data.statistics import pickles
from arbench.data.statistics.checks import KNOWN
from arbench.data.statistics.model import describe, valid_moments
from arbench.data.statistics.read import git_blob, read_statistics
from arbench.errors import InputError, UnknownName

Floats = NDArray[np.float64]


def covariance(size: int, seed: int = 0) -> Floats:
    """Positive definite, of low rank and a diagonal, quick to make."""
    low = np.random.default_rng(seed).standard_normal((size, 8))
    return np.asarray(low @ low.T / 8 + np.diag(np.linspace(0.5, 1.5, size)))


MU, SIGMA = np.random.default_rng(1).random(2048), covariance(2048)
MU_S, SIGMA_S = np.random.default_rng(2).random(2023), covariance(2023, 2)
DINO = covariance(1024, 3)
IMAGES = np.random.default_rng(3).integers(0, 256, (5, 16, 16, 3), dtype=np.uint8)


def save(path: Path, **arrays: Any) -> Path:
    np.savez(path, **arrays)
    return path


# --- ADM


def test_adm_reference_batch(tmp_path: Path) -> None:
    path = save(
        tmp_path / "VIRTUAL_imagenet256_labeled.npz",
        arr_0=IMAGES, mu=MU.astype(np.float32), sigma=SIGMA, mu_s=MU_S.astype(np.float32), sigma_s=SIGMA_S,
    )  # fmt: skip
    read = read_statistics(path)
    assert read.format == "adm"
    assert list(read.moments) == ["inception/tf1:pool3", "inception/tf1:spatial"]
    pool3, spatial = read.moments["inception/tf1:pool3"], read.moments["inception/tf1:spatial"]
    np.testing.assert_array_equal(pool3.mean, MU.astype(np.float32))
    np.testing.assert_array_equal(spatial.covariance, SIGMA_S)
    assert pool3.mean.dtype == pool3.covariance.dtype == np.float64
    assert pool3.n is None  # the moments are of the training set, the images are 10,000 of it
    assert read.images == path
    assert (read.identity.split, read.identity.sizes, read.identity.crop) == (
        "train", ((256, 256),), "adm-center-crop-v1",
    )  # fmt: skip
    shown = dict(describe(read))
    assert shown["format"] == "adm"
    assert shown["split"] == "train"
    assert "2023 dimensions" in shown["inception/tf1:spatial"]


def test_adm_images_alone_leave_the_moments_to_be_computed(tmp_path: Path) -> None:
    read = read_statistics(save(tmp_path / "val_imagenet.npz", arr_0=IMAGES))
    assert (read.format, dict(read.moments), read.images) == ("adm", {}, tmp_path / "val_imagenet.npz")
    assert (read.identity.n, read.identity.sizes, read.identity.split) == (5, ((16, 16),), "val")


def test_the_git_blob_in_circulation_is_recognised_under_any_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The published file is not here, so its entry is given the blob of a stand-in."""
    path = save(tmp_path / "reference.npz", mu=MU, sigma=SIGMA)
    with pytest.raises(InputError, match="not certain"):
        read_statistics(path)
    from dataclasses import replace

    from arbench.data.statistics import checks as identity

    monkeypatch.setattr(identity, "KNOWN", (replace(KNOWN[0], blob=git_blob(path)), *KNOWN[1:]))
    read = read_statistics(path)
    assert (read.format, read.identity.name) == ("adm", "ImageNet 256 train (ADM)")


def test_git_blob_is_gits(tmp_path: Path) -> None:
    """`printf 'what is up, doc?' | git hash-object --stdin`, from the Git book."""
    (tmp_path / "a").write_bytes(b"what is up, doc?")
    assert git_blob(tmp_path / "a") == "bd9dbf5aae1a3862dd1526723246b20206e5fc37"


# --- mu and sigma alone: whose are they?


def test_mu_and_sigma_alone_are_read_only_if_it_is_said_whose_they_are(tmp_path: Path) -> None:
    path = save(tmp_path / "stats.npz", mu=MU, sigma=SIGMA)
    with pytest.raises(InputError) as error:
        read_statistics(path)
    assert "ADM and pytorch-fid both write mu and sigma" in error.value.why
    assert "--reference-kind adm" in error.value.hint
    for kind, key in (
        ("adm", "inception/tf1:pool3"),
        ("pytorch-fid", "inception/half-pixel:pool3"),
        ("edm2", "inception/grid-sample:pool3"),
    ):
        assert list(read_statistics(path, kind=kind).moments) == [key]  # type: ignore[arg-type]
    for kind in ("torch-fidelity", "arbench", "clean-fid"):
        with pytest.raises(InputError):
            read_statistics(path, kind=kind)  # type: ignore[arg-type]
    with pytest.raises(UnknownName, match="pytorch-fid"):
        read_statistics(path, kind="pytorch_fid")  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["adm_in256_stats.npz", "adm_in512_stats.npz", "VIRTUAL_lsun_bedroom256.npz"])
def test_files_of_adm_are_known_by_name_and_never_read_as_pytorch_fids(tmp_path: Path, name: str) -> None:
    path = save(tmp_path / name, mu=MU, sigma=SIGMA)
    assert list(read_statistics(path).moments) == ["inception/tf1:pool3"]
    with pytest.raises(InputError, match="not of kind pytorch-fid but adm"):
        read_statistics(path, kind="pytorch-fid")


def test_a_batch_of_adm_is_never_read_as_pytorch_fids(tmp_path: Path) -> None:
    """pytorch-fid itself takes it without a word."""
    path = save(tmp_path / "a.npz", mu=MU, sigma=SIGMA, mu_s=MU_S, sigma_s=SIGMA_S)
    with pytest.raises(InputError, match="another preprocessing"):
        read_statistics(path, kind="pytorch-fid")


# --- clean-fid


def test_clean_fid_by_its_own_writer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """clean-fid's make_custom_stats on given features."""
    import cleanfid.fid

    features = np.random.default_rng(4).random((40, 2048)).astype(np.float32)
    monkeypatch.setattr(cleanfid, "__file__", str(tmp_path / "__init__.py"))
    monkeypatch.setattr(cleanfid.fid, "build_feature_extractor", lambda *args: None)
    monkeypatch.setattr(cleanfid.fid, "get_folder_features", lambda *args, **kwargs: features)
    monkeypatch.setattr(np, "savez_compressed", np.savez)  # compressing takes seconds
    cleanfid.fid.make_custom_stats("photos", "folder", mode="clean")
    read = read_statistics(tmp_path / "stats" / "photos_clean_custom_na.npz")
    assert read.format == "clean-fid"
    moments = read.moments["inception/clean:pool3"]
    np.testing.assert_allclose(moments.covariance, np.cov(features, rowvar=False), rtol=0, atol=1e-12)
    assert moments.n == 40  # from the features beside it
    np.testing.assert_array_equal(read.features["inception/clean:pool3"].rows(), features)


def test_clean_fids_features_alone_and_compressed(tmp_path: Path) -> None:
    features = np.random.default_rng(4).random((7, 2048)).astype(np.float32)
    np.savez_compressed(tmp_path / "photos_clean_custom_na_kid.npz", feats=features)
    read = read_statistics(tmp_path / "photos_clean_custom_na_kid.npz")
    assert not read.moments
    assert (read.identity.name, read.identity.n) == ("photos", 7)
    np.testing.assert_array_equal(read.features["inception/clean:pool3"].rows(), features)


@pytest.mark.parametrize(
    ("mode", "key"),
    [
        ("clean", "inception/clean:pool3"),
        ("legacy_tensorflow", "inception/grid-sample:pool3"),
        ("legacy_pytorch", "inception/half-pixel:pool3"),
    ],
)
def test_the_name_alone_says_how_clean_fid_resized(tmp_path: Path, mode: str, key: str) -> None:
    read = read_statistics(save(tmp_path / f"photos_{mode}_custom_na.npz", mu=MU, sigma=SIGMA))
    assert list(read.moments) == [key]
    np.testing.assert_array_equal(read.moments[key].mean, MU)


def test_clean_fid_names_carry_split_and_size(tmp_path: Path) -> None:
    clip = save(tmp_path / "ffhq_clean_clip_vit_b_32_train_256.npz", mu=np.zeros(512), sigma=np.eye(512))
    assert list(read_statistics(clip).moments) == ["clip-b32/clean:image"]
    identity = read_statistics(clip).identity
    assert (identity.name, identity.sizes, identity.split) == ("ffhq", ((256, 256),), "train")


# --- torch-fidelity


def test_torch_fidelitys_cache_by_its_own_writer(tmp_path: Path) -> None:
    from torch_fidelity.metric_fid import fid_input_id_to_statistics_cached
    from torch_fidelity.utils import cache_lookup_group_recompute_all_on_any_miss

    class Extractor:
        def get_name(self) -> str:
            return "inception-v3-compat"

        def get_requested_features_list(self) -> list[str]:
            return ["2048"]

    features = torch.rand(40, 2048, generator=torch.Generator().manual_seed(0))
    cache = {"cache": True, "cache_root": str(tmp_path), "verbose": False, "input1": "x", "input1_cache_name": "photos"}
    prefix = "photos-inception-v3-compat-features-"
    cache_lookup_group_recompute_all_on_any_miss(prefix, ["2048"], lambda: {"2048": features}, **cache)
    theirs = fid_input_id_to_statistics_cached(1, Extractor(), "2048", **cache)
    read = read_statistics(tmp_path / "photos-inception-v3-compat-stat-fid-2048.pt")
    assert read.format == "torch-fidelity"
    np.testing.assert_array_equal(read.moments["inception/tf1:pool3"].mean, theirs["mu"])
    np.testing.assert_allclose(read.moments["inception/tf1:pool3"].covariance, theirs["sigma"], rtol=0, atol=1e-15)
    stored = read_statistics(tmp_path / "photos-inception-v3-compat-features-2048.pt")
    np.testing.assert_array_equal(stored.features["inception/tf1:pool3"].rows(), features.numpy())
    assert stored.identity.n == 40


class Command:
    """A pickle that runs a command when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("name", ["a-inception-v3-compat-stat-fid-2048.pt", "a-inception-v3-compat-features-2048.pt"])
def test_a_hostile_torch_file_runs_nothing(tmp_path: Path, name: str) -> None:
    torch.save({"mu": MU, "sigma": Command(tmp_path / "ran")}, tmp_path / name)
    with pytest.raises(InputError, match="never loaded"):
        read_statistics(tmp_path / name)
    assert not (tmp_path / "ran").exists()


def test_torch_files_of_unknown_features_or_content(tmp_path: Path) -> None:
    for name, content, message in (
        ("a.pt", {}, "does not tell which features"),
        ("a-inception-v3-compat-stat-fid-768.pt", {}, "does not tell which features"),
        ("a-inception-v3-compat-stat-fid-2048.pt", {"mu": MU}, "no mu and sigma"),
        ("a-inception-v3-compat-features-2048.pt", torch.zeros(4, 768), "no features"),
    ):
        torch.save(content, tmp_path / name)
        with pytest.raises(InputError, match=message):
            read_statistics(tmp_path / name)


# --- EDM2


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_edm2_pickle_in_every_protocol(tmp_path: Path, protocol: int) -> None:
    content = {
        "num_images": 1_281_167,
        "fd_dinov2": {"mu": MU[:1024].astype(">f8"), "sigma": np.asfortranarray(DINO)},
    }
    (tmp_path / "img512.pkl").write_bytes(pickle.dumps(content, protocol))
    read = read_statistics(tmp_path / "img512.pkl")
    assert (read.format, read.identity.n) == ("edm2", 1_281_167)
    moments = read.moments["dinov2/edm2:cls"]
    np.testing.assert_array_equal(moments.mean, MU[:1024])
    np.testing.assert_array_equal(moments.covariance, DINO)
    assert moments.n == 1_281_167


def test_edm2_pickle_of_inception(tmp_path: Path) -> None:
    content = {"fid": {"mu": MU.astype(np.float32), "sigma": SIGMA}}
    (tmp_path / "img512.pkl").write_bytes(pickle.dumps(content))
    (moments,) = read_statistics(tmp_path / "img512.pkl").moments.values()
    np.testing.assert_array_equal(moments.mean, MU.astype(np.float32))


def test_numpy_1_names_and_scalars_in_a_pickle(tmp_path: Path) -> None:
    data = pickle.dumps({"n": np.int64(7), "x": np.arange(3.0)}, 2)
    assert b"numpy._core" in data
    (tmp_path / "a.pkl").write_bytes(data.replace(b"numpy._core", b"numpy.core"))
    loaded = pickles.load(tmp_path / "a.pkl")
    assert loaded["n"] == 7
    np.testing.assert_array_equal(loaded["x"], [0, 1, 2])


def hostile(folder: Path) -> dict[str, bytes]:
    command = Command(folder / "ran")
    return {
        "command": pickle.dumps({"fid": command}),
        "command in an object array": pickle.dumps({"fid": np.array([command], dtype=object)}),
        "object array": pickle.dumps({"fid": np.array([{}], dtype=object)}),
        "getattr": b"cbuiltins\ngetattr\n(cnumpy\nndarray\nS'__class__'\ntR.",
        "eval": b"cbuiltins\neval\n(S'open(\"" + str(folder / "ran").encode() + b'", "w")\'\ntR.',
        "numpy's own loader": b"cnumpy\nload\n(S'x'\nI0\nI01\ntR.",
        "pickle in pickle": b"cpickle\nloads\n(Vx\ntR.",
        "array of a hundred terabytes": b"cnumpy\nndarray\n((I100000000000000\nttR.",
        "array without content": b"cnumpy._core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntVb\ntR.",
        "set": pickle.dumps({1, 2}),
        "cut short": pickle.dumps({"fid": np.zeros(100)})[:-20],
        "no pickle": b"PK\x03\x04 no pickle",
        "empty": b"",
    }


@pytest.mark.parametrize("case", list(hostile(Path("x"))))
def test_a_hostile_pickle_is_refused_and_runs_nothing(tmp_path: Path, case: str) -> None:
    (tmp_path / "a.pkl").write_bytes(hostile(tmp_path)[case])
    with pytest.raises(InputError, match="nothing in it was run"):
        read_statistics(tmp_path / "a.pkl")
    assert not (tmp_path / "ran").exists()


def test_a_hostile_pickle_cannot_alter_how_others_are_read(tmp_path: Path) -> None:
    (tmp_path / "a.pkl").write_bytes(b"c_codecs\nencode\n(N}S'__defaults__'\n)stb.")
    with pytest.raises(InputError, match="it holds a function"):
        pickles.load(tmp_path / "a.pkl")
    (tmp_path / "b.pkl").write_bytes(b"c_codecs\nencode\n(Vabc\ntRp0\n0(lp1\n.")
    assert pickles.load(tmp_path / "b.pkl") == []


def test_the_commands_of_the_hostile_pickles_do_run_elsewhere(tmp_path: Path) -> None:
    """Else the test above could not fail."""
    for case in ("command", "command in an object array", "eval"):
        pickle.loads(hostile(tmp_path)[case])
        assert (tmp_path / "ran").exists()
        (tmp_path / "ran").unlink()


@pytest.mark.parametrize("content", [{}, [1], {"fid": 3}, {"num_images": "many", "fid": {}}, {"fid": {"mu": MU}}])
def test_pickles_without_statistics(tmp_path: Path, content: Any) -> None:
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(content))
    with pytest.raises(InputError, match=r"EDM2|not a number|no statistics"):
        read_statistics(tmp_path / "a.pkl")


# --- What no statistics can be


def wrong(**changes: Any) -> dict[str, Any]:
    return {"mu": np.zeros(8), "sigma": np.eye(8), **changes}


def with_entry(array: Floats, place: tuple[int, ...], value: float) -> Floats:
    changed = array.copy()
    changed[place] = value
    return changed


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (wrong(mu=np.zeros((8, 1))), r"shape \(8, 1\)"),
        (wrong(sigma=np.eye(7)), r"8 entries and the covariance has shape \(7, 7\)"),
        (wrong(mu=np.zeros(8, dtype=int)), "not of floats"),
        (wrong(mu=with_entry(np.zeros(8), (3,), np.nan)), "mean has entries that are not finite"),
        (wrong(sigma=with_entry(np.eye(8), (3, 3), np.inf)), "covariance has entries that are not finite"),
        (wrong(sigma=with_entry(np.eye(8), (3, 4), 0.1)), "not symmetric: off by 0.1"),
        (wrong(sigma=with_entry(np.eye(8), (3, 3), -0.1)), "negative eigenvalues"),
        (wrong(sigma=np.ones((8, 8)) - np.eye(8)), "negative eigenvalues"),
        (wrong(sigma=-np.eye(8)), "negative eigenvalues"),
    ],
)
def test_moments_that_cannot_be(arrays: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        valid_moments(arrays["mu"], arrays["sigma"], None, Path("a.npz"), "inception/tf1:pool3")


def test_singular_and_rounded_covariances_are_fine() -> None:
    """As of fewer images than dimensions, and from float32: eigenvalues are then negative by rounding."""
    rows = np.random.default_rng(5).standard_normal((20, 64)).astype(np.float32)
    singular = np.cov(rows, rowvar=False).astype(np.float32)
    assert np.linalg.eigvalsh(singular.astype(np.float64)).min() < 0
    for sigma in (singular, np.zeros((64, 64))):
        assert valid_moments(np.zeros(64), sigma, 20, Path("a.npz"), "x:y").cholesky is None


def test_wrong_dimensions_and_missing_keys(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="768 dimensions and inception/half-pixel:pool3 has 2048"):
        read_statistics(save(tmp_path / "a.npz", mu=np.zeros(768), sigma=np.eye(768)), kind="pytorch-fid")
    with pytest.raises(InputError, match="sigma missing; it holds mu, mu_s, sigma_s") as error:
        read_statistics(save(tmp_path / "b.npz", mu=MU, mu_s=MU_S, sigma_s=SIGMA_S))
    assert error.value.exit_code == 2
    with pytest.raises(InputError, match="it holds other"):
        read_statistics(save(tmp_path / "c.npz", other=MU))


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no file at"):
        read_statistics(tmp_path / "nowhere.npz")
    with pytest.raises(InputError, match="is not a file"):
        read_statistics(tmp_path)
    np.save(tmp_path / "array.npy", MU)
    with pytest.raises(InputError, match="one array"):
        read_statistics(tmp_path / "array.npy")
    (tmp_path / "text.npz").write_text("no npz")
    with pytest.raises(InputError, match="or is damaged"):
        read_statistics(tmp_path / "text.npz")
    whole = save(tmp_path / "adm_in256_stats.npz", mu=MU, sigma=SIGMA).read_bytes()
    middle = len(whole) // 2
    for damaged in (whole[:middle], whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :]):
        (tmp_path / "adm_in256_stats.npz").write_bytes(damaged)
        with pytest.raises(InputError, match="or is damaged"):
            read_statistics(tmp_path / "adm_in256_stats.npz")


def test_an_npz_of_objects_is_not_unpickled(tmp_path: Path) -> None:
    arrays = {"mu": np.array([Command(tmp_path / "ran")], dtype=object), "sigma": SIGMA}
    np.savez(tmp_path / "adm_in256_stats.npz", **arrays)
    with pytest.raises(InputError, match="or is damaged"):
        read_statistics(tmp_path / "adm_in256_stats.npz")
    assert not (tmp_path / "ran").exists()
