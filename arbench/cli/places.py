"""How words of the command line become paths: folders of this machine, or copies of what lies at an address."""

from __future__ import annotations

from pathlib import Path


def here(text: str) -> Path:
    """A path of this machine; an address is an error, and not a folder called `s3:`."""
    from arbench.remote.address import refuse_address

    return Path(refuse_address(str(text)))


def whole(text: str) -> Path:
    """The folder of a run or of scores; of an address a copy, with its samples."""
    from arbench.remote.cached import local_folder

    return local_folder(text)


def results(text: str) -> Path:
    """As `whole`, of an address without the samples: for what reads results."""
    from arbench.remote.cached import local_folder, without_units

    return local_folder(text, without_units)


def resumed(text: str) -> Path:
    """The folder of a run that is resumed; of an address the one that it is written in, made anew where it is gone."""
    from arbench.remote.address import is_address
    from arbench.run.mirror import staged

    return staged(text) if is_address(text) else Path(text)
