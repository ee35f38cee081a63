"""`arbench merge`: join the features of shards."""

from __future__ import annotations

from pathlib import Path

from arbench.errors import OK, InputError


def merge(folders: list[Path], out: Path) -> int:
    """Joins shards that `arbench score --shard I/N` made, in any order."""
    from arbench.features.feature_folder import is_features, merge_folders
    from arbench.terminal import PlainConsole

    parts = []
    for folder in folders:
        inner = folder / "features" if (folder / "features").is_dir() else folder
        if not is_features(str(inner)):
            raise InputError(
                f"no features in {folder}", "", "arbench score SAMPLES --reference REF --shard 0/2 --out DIR makes some"
            )
        parts.append(inner)
    found = merge_folders(parts, out)
    count = len(next(iter(found.values())))
    PlainConsole().print(f"{count} images, {', '.join(found)}: arbench score {out} --reference ...", soft_wrap=True)
    return OK
