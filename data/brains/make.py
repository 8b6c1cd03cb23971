"""Make the simulated brain: twelve people, one region that follows one layer, one that is noise.

Run it as a script; it writes `simulated.npz` beside itself::

    python make.py                # make the file
    python make.py --draws 200    # only report how often the true layer is found in new draws
"""

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np

from netphys import load_stimuli, load_subject, record
from netphys.core.compare import compare_pairs, compute_pairs
from netphys.core.distance import compute_distances

FILE = Path(__file__).resolve().parent / "simulated.npz"
SUBJECT, STIMULI, TRUE_LAYER = "builtin:language", "builtin:sentences", "transformer.h.2"
REGIONS = ("signal", "noise")
N_PARTICIPANTS, N_UNITS, SEED = 12, 40, 0
NOISE = 0.5  # standard deviation, where the layer's patterns have a mean square of 1


def record_layers():
    """Return the mean over the tokens of every sentence at each layer, and the sentences' table."""
    stimuli = load_stimuli(STIMULI)
    with tempfile.TemporaryDirectory() as folder:
        session = record(
            load_subject(SUBJECT),
            stimuli,
            Path(folder) / "session.nwb",
            sites=["embed", "resid"],
            progress=False,
        )
        trials = {site: session.trials(site).to_numpy().astype(float) for site in session.sites}
    return {site: np.nanmean(x, axis=1) for site, x in trials.items()}, stimuli.table


def simulate(patterns, rng):
    """Simulate responses, shape (participant, region, trial, unit), from patterns (trial, unit).

    Each person's units are random mixtures of the layer's units, plus noise. The region "noise"
    has the same mean response over sentences and the same variance, but nothing that tells
    sentences apart.
    """
    patterns = patterns - patterns.mean(axis=1, keepdims=True)
    patterns = patterns / np.sqrt(np.mean(patterns**2))
    mean = patterns.mean(axis=0)
    spread = np.sqrt(np.mean((patterns - mean) ** 2) + NOISE**2)
    size = (N_PARTICIPANTS, len(REGIONS), len(patterns), N_UNITS)
    mix = rng.normal(size=(N_PARTICIPANTS, patterns.shape[1], N_UNITS))
    mix /= np.sqrt(patterns.shape[1])
    noise = rng.normal(size=size)
    signal = patterns @ mix + NOISE * noise[:, 0]
    control = (mean @ mix)[:, None] + spread * noise[:, 1]
    return np.stack([signal, control], axis=1)


def score_layers(responses, layers):
    """Return each person's Spearman correlation with each layer's RDM: (participant, layer)."""
    rdms = [compute_distances(x) for x in (*responses.astype(float), *layers.values())]
    pairs = np.stack([compute_pairs(rdm) for rdm in rdms])
    return compare_pairs(pairs[: len(responses)], pairs[len(responses) :])


def count_recoveries(layers, n_draws):
    """Return how often each layer fits the region "signal" best, over new draws."""
    patterns, names = layers[TRUE_LAYER], list(layers)
    best = [
        score_layers(simulate(patterns, np.random.default_rng([SEED, 1, draw]))[:, 0], layers)
        .mean(axis=0)
        .argmax()
        for draw in range(n_draws)
    ]
    return dict(zip(names, np.bincount(best, minlength=len(names)).tolist(), strict=True))


def main():
    """Make the file, or count recoveries."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=FILE)
    parser.add_argument("--draws", type=int, default=0, help="only count recoveries in new draws")
    args = parser.parse_args()
    layers, table = record_layers()
    if args.draws:
        print(json.dumps(count_recoveries(layers, args.draws), indent=2))
        return
    responses = simulate(layers[TRUE_LAYER], np.random.default_rng(SEED)).astype(np.float16)
    np.savez_compressed(
        args.out,
        responses=responses,
        stimulus_id=table["stimulus_id"].to_numpy(str),
        region=np.array(REGIONS),
        true_layer=np.array(TRUE_LAYER),
    )
    means = score_layers(responses[:, 0], layers).mean(axis=0)
    print(json.dumps(dict(zip(layers, means.round(3).tolist(), strict=True)), indent=2))


if __name__ == "__main__":
    main()
