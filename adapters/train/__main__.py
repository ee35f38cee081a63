"""`python -m arbench.adapters.train NAME`: train a mini again, and write its weights and a card beside them."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from arbench import registry
from arbench.errors import INTERRUPTED, OK, ArbenchError, UnknownName, UsageError

if TYPE_CHECKING:
    from .loop import TrainingRecipe


def recipes() -> dict[str, str]:
    """Names of the cards that can be trained -> "module:attribute" of their recipes; torch is not imported."""
    return {name: path for system in registry.systems() for name, path in system.training.items()}


def recipe(name: str) -> TrainingRecipe:
    """The `TrainingRecipe` of a mini. Raises UnknownName with the closest names."""
    known = recipes()
    if name not in known:
        raise UnknownName("mini", name, known, "python -m arbench.adapters.train --list")
    found: TrainingRecipe = registry.resolve(known[name])
    return found


def weight_file(name: str) -> Path:
    """The name under which the weights of a mini are shipped."""
    checkpoint = registry.card(name).checkpoint
    return Path(checkpoint.file if checkpoint else f"{name.rpartition('/')[2]}.safetensors")


def train(name: str, *, steps: int | None, out: Path | None, seed: int, device: str, threads: int) -> Path:
    """Train the mini `name`, show a bar, write the weights to `out` and the card beside it; resumes if interrupted."""
    import torch
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
    from safetensors.torch import save

    from arbench.protocols import LoadSpec

    from ..layers.checkpoint import device_of
    from .loop import fit

    chosen = recipe(name)
    torch.set_num_threads(threads)
    steps = steps or chosen.steps
    out = out or weight_file(name)
    if not out.parent.is_dir():
        raise UsageError(f"no folder {out.parent}", "the weights would go there", f"mkdir -p {out.parent}")
    state_path = out.with_name(out.name + ".state")
    settings = {"name": name, "batch": chosen.batch, "device": device, "threads": threads}
    task = chosen.prepare(seed, device_of(LoadSpec(device=device)))
    console = Console(stderr=True)
    if state_path.is_file():
        console.print(f"resuming from {state_path}")
    columns = (
        TextColumn(name),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[shown]}"),
    )
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task(name, total=steps, shown="")

        def show(step: int, metrics: dict[str, float]) -> None:
            shown = "  ".join(f"{key} {value:.4g}" for key, value in metrics.items())
            progress.update(bar, completed=step, shown=shown)
            if not console.is_terminal and (step % 50 == 0 or step == steps):
                console.print(f"step {step}/{steps}  {shown}", highlight=False)

        last = fit(
            task.module,
            task.loss,
            task.batches,
            steps=steps,
            learning_rate=chosen.learning_rate,
            seed=seed,
            ema=chosen.ema,
            weight_decay=chosen.weight_decay,
            after_step=task.after_step,
            on_step=show,
            state_path=state_path,
            settings=settings,
        )
    measured = task.measure()
    weights = {key: value.detach().float().cpu().contiguous() for key, value in task.weights().items()}
    card = {
        "name": name,
        "data": chosen.data,
        "steps": steps,
        "batch": chosen.batch,
        "seed": seed,
        "learning_rate": chosen.learning_rate,
        "device": device,
        "threads": threads,
        "torch": torch.__version__.partition("+")[0],
        "parameters": sum(value.numel() for value in weights.values()),
        "training": last,
        "measured": measured,
    }
    temporary = out.with_name(out.name + ".part")
    temporary.write_bytes(save(weights, metadata={"name": name}))
    temporary.replace(out)
    out.with_suffix(".json").write_text(json.dumps(card, indent=2) + "\n")
    state_path.unlink(missing_ok=True)
    shown = "  ".join(f"{key} {value:.4g}" for key, value in measured.items())
    console.print(f"{out}: {card['parameters']} parameters  {shown}", highlight=False)
    return out


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m arbench.adapters.train", description=__doc__)
    parser.add_argument("name", nargs="?", metavar="NAME", help="the mini, for instance tokenizers/var-mini")
    parser.add_argument("--list", action="store_true", help="print the names")
    parser.add_argument("--steps", type=int, help="training steps (default: the mini's own)")
    parser.add_argument("--out", type=Path, help="the safetensors file (default: the shipped name, in this folder)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads; the weights depend on it in the last bits")
    options = parser.parse_args(arguments)
    if options.list or options.name is None:
        print("\n".join(recipes()))
        return OK
    try:
        if options.steps is not None and options.steps < 1:
            raise UsageError(f"--steps {options.steps} trains nothing", "", "give at least 1")
        train(
            options.name,
            steps=options.steps,
            out=options.out,
            seed=options.seed,
            device=options.device,
            threads=options.threads,
        )
    except ArbenchError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("interrupted; the same command resumes from the last saved step", file=sys.stderr)
        return INTERRUPTED
    return OK


if __name__ == "__main__":
    sys.exit(main())
