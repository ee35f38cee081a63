"""`arbench captions`: features of prompts, as a text-to-image model takes them, a file for each."""

from __future__ import annotations

import hashlib
from pathlib import Path

from arbench.errors import OK, InputError, UnknownName

DTYPES = ("float32", "bfloat16", "float16")


def captions(
    adapter: str, prompts: Path, encoder: str, output: Path, *, device: str, dtype: str, instruction: Path | None
) -> int:
    """Encodes the lines of `prompts`; what is there already is kept."""
    from arbench import registry
    from arbench.captions import CaptionEncoder, text_encoder_of, write
    from arbench.cli.score import progress_bar
    from arbench.data.prompts import read_prompts
    from arbench.run.device import resolve_device
    from arbench.terminal import PlainConsole

    card = registry.card(adapter)
    about, _ = text_encoder_of(card)
    if dtype not in DTYPES:
        raise UnknownName("number format", dtype, DTYPES, f"--dtype {DTYPES[0]}")
    lines = read_prompts(prompts)
    if not lines:
        raise InputError(f"{prompts} has no prompts", "it is empty", "write one prompt per line")
    before = _read_instruction(instruction)
    if output.exists() and not output.is_dir():
        raise InputError(
            f"{output} is a file", "captions are one file per prompt, in a folder", "give another --output"
        )
    console = PlainConsole(stderr=True)
    if about.instruction and not before:
        console.print(
            f"note: {card.name} was used with an instruction before every prompt ({about.instruction}); give it by"
            " --instruction FILE, or features differ from the official ones",
            soft_wrap=True,
        )
    encode = CaptionEncoder(card, encoder, device=resolve_device(device), dtype=dtype, instruction=before)
    settings = {
        "model": card.name,
        "encoder": encode.fingerprint,
        "dtype": dtype,
        "instruction": hashlib.sha256(before.encode()).hexdigest() if before else "",
    }
    with progress_bar(console) as progress:
        written = write(lines, output, encode, settings, lambda done: progress("captions", done, len(lines)))
    out = PlainConsole()
    kept = f", {written.kept} of them from before" if written.kept else ""
    out.print(f"captions: {len(lines)} in {output}{kept}", soft_wrap=True)
    if written.cut:
        shown = ", ".join(str(index + 1) for index in written.cut[:8]) + (", ..." if len(written.cut) > 8 else "")
        out.print(f"cut:      {len(written.cut)} are longer than {card.name} reads: prompts {shown}", soft_wrap=True)
    out.print(f"prompts:  {written.prompts}", soft_wrap=True)
    return OK


def _read_instruction(path: Path | None) -> str:
    if path is None:
        return ""
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read the instruction {path}", str(error), "give a UTF-8 text file") from error
