"""An encoding study: from the sessions of a protocol to a ladder of models of brain responses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import xarray as xr

from netphys._options import ISOLATED, SUBJECT
from netphys.brain.datasets import load_brain
from netphys.brain.encoding import fit_encoding
from netphys.brain.encoding_result import Encoding
from netphys.brain.prepare import align_series, align_words, prepare_responses
from netphys.data.session import Session
from netphys.protocol import Protocol

WORD_COLUMNS = ("onset", "duration", "n_characters", "word_form")  # what is known of each word
TWIN, FIRST, ALONE, CONTEXT = "untrained twin", "layer 0", "isolated word", "word in context"


def predict_responses(
    protocol: Protocol, sessions: Mapping[str, Session], *, progress: bool = True
) -> dict[str, Encoding]:
    """Fit the ladder of encoding models that a protocol asks for, one per target.

    Parameters
    ----------
    protocol : Protocol
        Its table ``[match]`` names the dataset and the options.
    sessions : mapping of str to Session
        "subject" (each word in its context), twins, and "isolated" (each word form alone).
    progress : bool
        Show progress bars.

    Returns
    -------
    results : dict of str to Encoding
        One per target: "participant", "group".
    """
    table = protocol.match
    brain = load_brain(table.dataset)
    responses = prepare_responses(brain["responses"].assign_attrs(dataset=table.dataset))
    words = get_words(sessions[SUBJECT])
    features = make_features(protocol, sessions, responses, words)
    nuisance = make_nuisance(brain, responses, words)
    results = {}
    for target in table.targets:
        result = fit_encoding(
            features,
            responses,
            nuisance=nuisance,
            contrasts=_choose_contrasts(list(features)),
            target=target,
            n_null=table.n_null,
            n_bootstraps=table.n_bootstraps,
            rng=table.seed,
            progress=progress,
        )
        results[target] = replace(
            result,
            params=result.params | {"excluded": brain.attrs["excluded"]},
            provenance={"dataset": describe_brain(brain)},
        )
    return results


def describe_brain(brain: xr.Dataset) -> dict[str, str]:
    """Return where brain data come from, for the provenance of a result.

    Parameters
    ----------
    brain : Dataset
        Of `load_brain`.

    Returns
    -------
    facts : dict of str to str
        Name, version, DOI, licence, citation, checksum.
    """
    keys = ("name", "title", "version", "doi", "licence", "citation", "origin", "sha256")
    return {key: str(brain.attrs.get(key, "")) for key in keys}


def get_words(session: Session) -> xr.Dataset:
    """Return what is known of every word of a session, in the order of the story.

    Parameters
    ----------
    session : Session
        One trial per word, with the columns onset, duration, n_characters and word_form.

    Returns
    -------
    words : Dataset
        These columns, dim trial.

    Raises
    ------
    ValueError
        If a column is missing.
    """
    table = session.trial_table.sort_values("stimulus_index", kind="stable")
    missing = [c for c in WORD_COLUMNS if c not in table]
    if missing:
        raise ValueError(
            f"{session.path.name} has no column {', '.join(missing)}, so it is no session of timed "
            "words. Use the stimuli of a dataset: stimuli.source='dataset:alice2016'."
        )
    return xr.Dataset({c: ("trial", table[c].to_numpy()) for c in WORD_COLUMNS})


def make_features(
    protocol: Protocol, sessions: Mapping[str, Session], responses: xr.DataArray, words: xr.Dataset
) -> dict[str, xr.DataArray]:
    """Make the rungs of the ladder: what each control and the model say of the story.

    Parameters
    ----------
    protocol : Protocol
        Its ``match.sites`` are used.
    sessions : mapping of str to Session
        "subject", twins, "isolated".
    responses : DataArray
        Prepared responses; features are brought onto their clock and filter.
    words : Dataset
        Of `get_words`.

    Returns
    -------
    features : dict of str to DataArray
        Dims (layer, time, unit), from control to claim.
    """
    sites = protocol.match.sites
    onsets = words["onset"].to_numpy()
    layers = _pool_sites(sessions[SUBJECT], sites)
    if layers.sizes["layer"] < 2:
        raise ValueError(
            f"match.sites={list(sites)} is one site only, {layers['layer'].item()}. Give at least "
            "two: the first one is the control of the others."
        )
    first, deeper = layers.isel(layer=[0]), layers.isel(layer=slice(1, None))
    rungs = {}
    for n, twin in enumerate(t.name for t in protocol.twins):
        rungs[TWIN if n == 0 else f"{TWIN} {n + 1}"] = _pool_sites(sessions[twin], sites)
    rungs[FIRST] = first
    if ISOLATED in sessions:
        rungs[ALONE] = _look_up(sessions[ISOLATED], deeper["layer"].to_numpy(), words)
    rungs[CONTEXT] = deeper
    return {name: align_words(x, onsets, responses) for name, x in rungs.items()}


def make_nuisance(
    brain: xr.Dataset, responses: xr.DataArray, words: xr.Dataset
) -> dict[str, xr.DataArray]:
    """Make the regressors that every model has: what words and scanning do without meaning.

    Parameters
    ----------
    brain : Dataset
        With `sound_power` and `motion`, where the dataset has them.
    responses : DataArray
        Prepared responses.
    words : Dataset
        Of `get_words`.

    Returns
    -------
    nuisance : dict of str to DataArray
        Word onset, duration and length, sound power, motion.
    """
    onsets = words["onset"].to_numpy()
    one = xr.ones_like(words["onset"], dtype=float)
    nuisance = {
        "word onset": align_words(one, onsets, responses, centre=False),
        "word duration": align_words(words["duration"], onsets, responses),
        "word length": align_words(words["n_characters"].astype(float), onsets, responses),
    }
    if "sound_power" in brain:
        # given at the beginning of each volume, needed at its middle
        time, half = brain["time"].to_numpy(), responses.attrs["tr"] / 2
        power = np.interp(time, time - half, brain["sound_power"].to_numpy())
        nuisance["sound power"] = align_series(
            xr.DataArray(power, dims="time", coords={"time": time}), responses
        )
    if "motion" in brain:
        nuisance["motion"] = align_series(brain["motion"], responses)
    return nuisance


def _pool_sites(session: Session, sites: tuple[str, ...]) -> xr.DataArray:
    """Return (layer, trial, unit): tokens pooled per word, sites in order of depth."""
    found = {name for pattern in sites for name in session.select(pattern)}
    names = [name for name in session.sites if name in found]
    return xr.DataArray(
        np.stack([session.pool(name).to_numpy() for name in names]),
        dims=("layer", "trial", "unit"),
        coords={"layer": names},
    )


def _look_up(session: Session, sites: np.ndarray, words: xr.Dataset) -> xr.DataArray:
    """Return the values of every word of the story from a session of distinct word forms."""
    pooled = _pool_sites(session, tuple(str(s) for s in sites))
    shown = session.pool(str(sites[0]))["word_form"].to_numpy()
    row = {form: i for i, form in enumerate(shown)}
    forms = words["word_form"].to_numpy()
    absent = [form for form in forms if form not in row]
    if absent:
        raise ValueError(
            f"{session.path.name} lacks the word {absent[0]!r}. Record it again: --overwrite."
        )
    return pooled.isel(trial=[row[form] for form in forms])


def _choose_contrasts(rungs: list[str]) -> list[tuple[str, str]]:
    """Return the differences that carry the argument, from control to claim."""
    pairs = [(name, "nuisance") for name in rungs]
    control = TWIN if TWIN in rungs else None
    if control:
        pairs += [(name, control) for name in rungs if not name.startswith(TWIN)]
    if ALONE in rungs:
        pairs += [(CONTEXT, FIRST), (CONTEXT, ALONE)]
    return pairs
