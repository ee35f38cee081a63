"""Parquet files with an image column (bytes, or {"bytes", "path"} as Hugging Face datasets write it) as a reader."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from ...errors import ImageError, InputError
from ...json_text import writable
from ...limits import refuse_beyond
from .ahead import AGAIN, Header, Item, Shard, damaged
from .arrays import too_large_label
from .decode import BadImage, Decoded, decode

IMAGE_NAMES = ("image", "img", "images", "jpg", "jpeg", "png", "webp", "picture", "image_bytes", "bytes")
LABEL_NAMES = ("label", "labels", "cls", "class", "class_id", "class_label", "fine_label", "target")
TABLE_DAMAGE = (OSError, ValueError, LookupError, TypeError, MemoryError)
"""What Arrow raises beside its own: names of columns that are not UTF-8, a footer that does not add up."""
SHOWN = 4
"""Columns that an error says how to choose."""
ROWS = 32
"""Rows read at once."""
INFLATION = 16
"""How many times its bytes in the file a group of rows may take; beyond it the bound of `limits` holds."""
BUFFER = 1 << 20
"""Bytes read at once: without a buffer Arrow reads a row group whole; with it, page by page."""


class ParquetReader:
    """Files one after another, by row groups; groups without a wanted row are passed over.

    `key` names the image column. Without it: the only column that can hold images, or the first of `IMAGE_NAMES`.
    An integer column of `LABEL_NAMES` gives labels; null or negative ones (as for unlabelled splits) are none.
    """

    classes: Mapping[int, str] = {}
    passed_over: Mapping[str, int] = {}
    seeks = False
    portable = True

    def __init__(self, name: str, paths: Sequence[Path], key: str | None = None) -> None:
        self.name = name
        self._paths = paths
        self._columns = [self._choose(path, key) for path in paths]
        self._rows = [rows for rows, _, _ in self._columns]
        self.count = sum(self._rows)
        if not self.count:
            raise ImageError(f"{name} has no rows", "", "check the path")

    def _choose(self, path: Path, key: str | None) -> tuple[int, str, str | None]:
        """Rows, image column and label column of one file."""
        import pyarrow.types as types

        with _open(self.name, path) as file:
            schema, rows = file.schema_arrow, file.metadata.num_rows
        able = [field.name for field in schema if _holds_images(field.type)]
        if key is not None:
            if key not in able:
                found = ", ".join(f"{field.name} ({field.type})" for field in schema)
                hint = "choose one of bytes; score takes --reference-column where the reference's is another"
                raise ImageError(f"{path} has no image column {key!r}", f"it has {found}", hint)
            image = key
        elif len(able) == 1:
            image = able[0]
        else:
            known = [column for column in IMAGE_NAMES if column in able]
            if not known:
                if not able:
                    refuse_table(path, schema.names)
                why = f"columns of bytes: {', '.join(able)}"
                raise ImageError(
                    f"cannot tell which column of {path} holds the images",
                    why,
                    f"name it: {' or '.join(f'--column {shlex.quote(column)}' for column in able[:SHOWN])}",
                )
            image = known[0]
        labels = [name for name in LABEL_NAMES if name in schema.names and types.is_integer(schema.field(name).type)]
        return rows, image, labels[0] if labels else None

    def items(self, shard: Shard) -> Iterator[Item]:
        import pyarrow

        start = 0
        for path, (rows, image, label) in zip(self._paths, self._columns, strict=True):
            if shard.past(start):
                return
            try:
                yield from self._file(path, start, shard, image, label)
            except (pyarrow.ArrowException, *TABLE_DAMAGE) as error:
                raise damaged(str(path), error) from error
            start += rows

    def headers(self, limit: int | None) -> Iterator[Header]:
        """Without sizes: finding them would take reading all images."""
        import pyarrow

        left = self.count if limit is None else min(limit, self.count)
        for path, (rows, _, label) in zip(self._paths, self._columns, strict=True):
            rows = min(rows, left)
            try:
                labels = self._labels(path, rows, label)
            except (pyarrow.ArrowException, *TABLE_DAMAGE) as error:
                raise damaged(str(path), error) from error
            for row, number in enumerate(labels):
                yield Header(f"{self._prefix(path)}{row}", _known(number, path))
            left -= rows

    def _labels(self, path: Path, rows: int, label: str | None) -> list[int | None]:
        """Of the first `rows` rows."""
        if label is None or not rows:
            return [None] * rows
        with _open(self.name, path) as file:
            found: list[int | None] = file.read([label]).column(0).slice(0, rows).to_pylist()
            return found

    def _prefix(self, path: Path) -> str:
        return "" if len(self._paths) == 1 else f"{path.name}:"

    def _file(self, path: Path, start: int, shard: Shard, image: str, label: str | None) -> Iterator[Item]:
        prefix = self._prefix(path)
        columns = [image] if label is None else [image, label]
        with _open(self.name, path) as file:
            first = start
            for group in range(file.num_row_groups):
                _refuse_inflating(path, file.metadata.row_group(group), image)
                end = first + file.metadata.row_group(group).num_rows
                if shard.indices(end, first):
                    index = first
                    for batch in file.iter_batches(ROWS, [group], columns, use_threads=False):
                        pictures = batch.column(batch.schema.get_field_index(image))
                        labels = None if label is None else batch.column(batch.schema.get_field_index(label))
                        for row in range(batch.num_rows):
                            if shard.wants(index):
                                cell = pictures[row].as_py()
                                known = _known(None if labels is None else labels[row].as_py(), path)
                                yield Item(
                                    index, f"{prefix}{index - start}", partial(_decode, cell), known, _size(cell)
                                )
                            index += 1
                first = end


def _refuse_inflating(path: Path, group: Any, image: str) -> None:
    """Raises `InputError` for pictures that take far more bytes than in the file: encoded ones hardly compress."""
    chunks = [group.column(index) for index in range(group.num_columns)]
    mine = [chunk for chunk in chunks if chunk.path_in_schema.partition(".")[0] == image]
    needed = sum(chunk.total_uncompressed_size for chunk in mine)
    if needed > INFLATION * sum(chunk.total_compressed_size for chunk in mine):
        refuse_beyond(f"a group of rows of {path}", needed)


def refuse_table(path: Path, names: Sequence[str]) -> NoReturn:
    """For a table without a column of bytes; of a run's own, with the command that reads it."""
    shown = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
    run = next((folder for folder in path.absolute().parents if (folder / "run.json").is_file()), None)
    step = (
        f"arbench report {run}" if run else "name a table with a column of encoded images: bytes, or a struct with them"
    )
    raise ImageError(f"{path} has no image column", f"it is a table of values, with {shown}", step)


def _known(label: int | None, path: Path) -> int | None:
    if label is not None and label >= 2**63:
        raise too_large_label(label, path)
    return label if label is not None and label >= 0 else None


def _open(name: str, path: Path) -> Any:
    import pyarrow
    import pyarrow.parquet

    if not path.is_file():
        raise InputError(f"no file at {path}", f"asked for as {name!r}", "check the path")
    try:
        # Arrow opens names in UTF-8 only
        file = path if writable(str(path)) == str(path) else pyarrow.PythonFile(path.open("rb"))
        return pyarrow.parquet.ParquetFile(file, pre_buffer=False, buffer_size=BUFFER)
    except PermissionError as error:
        raise InputError(f"cannot read {path}", error.strerror or str(error), "check its permissions") from error
    except (pyarrow.ArrowException, *TABLE_DAMAGE) as error:
        raise InputError(f"{path} is not a parquet file, or is damaged", str(error), AGAIN) from error


def _holds_images(kind: Any) -> bool:
    import pyarrow.types as types

    if types.is_struct(kind):
        return any(field.name == "bytes" and _is_bytes(field.type) for field in kind)
    return _is_bytes(kind)


def _is_bytes(kind: Any) -> bool:
    import pyarrow.types as types

    return bool(types.is_binary(kind) or types.is_large_binary(kind) or types.is_binary_view(kind))


def _size(cell: bytes | dict[str, Any] | None) -> int:
    data = cell.get("bytes") if isinstance(cell, dict) else cell
    return len(data or b"")


def _decode(cell: bytes | dict[str, Any] | None) -> Decoded:
    data = cell.get("bytes") if isinstance(cell, dict) else cell
    if data is None:
        path = cell.get("path") if isinstance(cell, dict) else None
        raise BadImage("empty file", f"only the path {path} is in the table" if path else "the cell is null")
    return decode(data)
