"""Train the built-in subject `builtin:digits`: one small network from ten seeds.

The images are the 1,797 handwritten digits that come with scikit-learn. Run it as a script, from
any folder, with netphys and scikit-learn installed::

    python train.py --out some/folder            # ten seeds, about half a minute each on one core
    python train.py --out some/folder --stimuli  # also the 62 probe images and their table

Every seed draws its own first weights, its own order of images and its own small shifts of them.
"""

import argparse
import csv
import json
import platform
import time
from pathlib import Path

import numpy as np
import sklearn
import torch
from safetensors.torch import save_file
from sklearn.datasets import load_digits
from torch.nn import functional
from tqdm.auto import tqdm

from netphys.recording.digits import Digits
from netphys.recording.subject import Subject
from netphys.recording.twins import make_random

HERE = Path(__file__).resolve().parent
N_SEEDS, N_HELDOUT, N_PROBES = 10, 360, 62
SPLIT_SEED = 1998  # of the split, the same for all networks


def parse_arguments(argv=None):
    """Return the command line's options."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=80)
    parser.add_argument("--batch", type=int, default=64, help="images in one step")
    parser.add_argument("--lr", type=float, default=6e-3, help="highest learning rate")
    parser.add_argument("--decay", type=float, default=1e-2, help="weight decay")
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(N_SEEDS)))
    parser.add_argument("--out", type=Path, default=HERE, help="folder for weights")
    parser.add_argument("--stimuli", action="store_true", help="write the probe images there too")
    return parser.parse_args(argv)


def load_images():
    """Return all images as uint8 (image, 8, 8), 0 the ground and 255 ink, and their digits."""
    digits = load_digits()
    return np.rint(digits.images * 255 / 16).astype(np.uint8), digits.target


def split_images(labels):
    """Return rows to train on, held-out rows, and the probes among these, balanced over digits."""
    order = np.random.default_rng(SPLIT_SEED).permutation(len(labels))
    heldout, train = order[:N_HELDOUT], order[N_HELDOUT:]
    by_digit = [heldout[labels[heldout] == digit] for digit in range(10)]
    probes = np.concatenate(
        [rows[: N_PROBES // 10 + (digit < N_PROBES % 10)] for digit, rows in enumerate(by_digit)]
    )
    return train, heldout, probes


def to_tensor(images):
    """Return images as the network takes them."""
    return torch.from_numpy(images.astype(np.float32) / 255)[:, None]


def shift(images, generator):
    """Return images moved by up to one pixel along each axis, new ones empty."""
    dy, dx = torch.randint(0, 3, (2, len(images)), generator=generator)
    wide = functional.pad(images, (1, 1, 1, 1))
    rows = (dy[:, None] + torch.arange(8))[:, :, None]
    columns = (dx[:, None] + torch.arange(8))[:, None, :]
    return wide[torch.arange(len(images))[:, None, None], 0, rows, columns][:, None]


def train_network(images, labels, seed, args):
    """Return a trained network and the SHA-256 of the weights that it started with."""
    model = make_random(Digits(), seed).train()
    start = Subject(model, name="start").compute_hash()
    generator = torch.Generator().manual_seed(seed)
    steps = args.epochs * -(-len(images) // args.batch)
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.lr, weight_decay=args.decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=args.lr, total_steps=steps)
    for _ in tqdm(range(args.epochs), desc=f"seed {seed}"):
        for rows in torch.randperm(len(images), generator=generator).split(args.batch):
            loss = functional.cross_entropy(model(shift(images[rows], generator)), labels[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return model.eval(), start


def measure_accuracy(model, images, labels):
    """Return the fraction of images whose digit is named."""
    with torch.no_grad():
        return float((model(images).argmax(1) == labels).float().mean())


def save_stimuli(folder, images, labels, probes):
    """Write the probe images as PNG files and their table, digits in order."""
    from PIL import Image

    (folder / "digits").mkdir(parents=True, exist_ok=True)
    counts = dict.fromkeys(range(10), 0)
    with (folder / "digits.tsv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, delimiter="\t", lineterminator="\n")
        writer.writerow(["stimulus_id", "condition", "stim_file", "row"])
        for row in probes:
            digit = int(labels[row])
            name = f"digit{digit}_{counts[digit]}"
            counts[digit] += 1
            Image.fromarray(images[row]).save(folder / "digits" / f"{name}.png", optimize=True)
            writer.writerow([name, digit, f"digits/{name}.png", int(row)])


def main(argv=None):
    """Train all seeds and write weights, training.json and, if asked, the stimuli."""
    args = parse_arguments(argv)
    torch.set_num_threads(1)  # sums in one order: the same weights each time on one machine
    torch.use_deterministic_algorithms(True)
    images, labels = load_images()
    rows = dict(zip(("train", "heldout", "probes"), split_images(labels), strict=True))
    args.out.mkdir(parents=True, exist_ok=True)
    if args.stimuli:
        save_stimuli(args.out, images, labels, rows["probes"])
    x = {k: to_tensor(images[r]) for k, r in rows.items()}
    y = {k: torch.from_numpy(labels[r]) for k, r in rows.items()}
    begin, seeds = time.perf_counter(), {}
    for seed in args.seeds:
        model, start = train_network(x["train"], y["train"], seed, args)
        path = args.out / f"seed_{seed}.safetensors"
        save_file(model.state_dict(), path)
        path.chmod(0o644)
        accuracy = {k: round(measure_accuracy(model, x[k], y[k]), 4) for k in rows}
        seeds[seed] = {"accuracy": accuracy, "untrained_sha256": start}
    record = {k: vars(args)[k] for k in ("epochs", "batch", "lr", "decay")}
    record |= {"n_images": {k: len(r) for k, r in rows.items()}, "split_seed": SPLIT_SEED}
    record |= {"parameters": sum(p.numel() for p in model.parameters())}
    record |= {"device": f"{platform.machine()} CPU", "threads": 1}
    record |= {"seconds": round(time.perf_counter() - begin, 1)}
    versions = {"python": platform.python_version(), "numpy": np.__version__}
    versions |= {"torch": torch.__version__, "scikit-learn": sklearn.__version__}
    record |= {"versions": versions, "seeds": seeds}
    (args.out / "training.json").write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
