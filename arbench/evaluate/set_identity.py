"""What the pictures of a set of features are: their number, sizes, labels and digest. Imports no torch."""

from __future__ import annotations

import numpy as np

from ..data.contents import IdentityTally
from ..data.statistics import checks
from ..data.statistics.checks import SetIdentity
from ..features.feature_set import Features


def identity_of(one: Features, crop: str = "none", split: str | None = None) -> SetIdentity:
    """What the pictures of a set are."""
    tally = IdentityTally.from_arrays(
        {
            "index": np.array([picture.index for picture in one.pictures], dtype=np.int64),
            "label": np.array(
                [np.iinfo(np.int64).min if picture.label is None else picture.label for picture in one.pictures]
            ),
            "size": np.array([(picture.height, picture.width) for picture in one.pictures], dtype=np.int32),
            "digest": np.frombuffer(bytes.fromhex("".join(p.digest for p in one.pictures)), np.uint8).reshape(-1, 16),
        }
    )
    return checks.identity(
        one.source,
        tally.result(),
        crop=checks.UNKNOWN if crop == "none" else crop,
        split=split,  # type: ignore[arg-type]
    )
