"""Brain data sets: which there are, how to get them, and how to load them.

Loading never downloads. The simulated brain ships with netphys; the others are fetched once, from
their origin, with every file verified.
"""

from __future__ import annotations

import dataclasses
import inspect
import logging
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import pandas as pd
import xarray as xr

from netphys._check import check_option, check_type
from netphys.brain import _alice, _kriegeskorte, _simulated
from netphys.brain._fetch import fetch_files
from netphys.brain._registry import Entry, get_entry, read_registry
from netphys.brain._store import compute_digest, find_cache, find_folder, read_files
from netphys.data.stimuli import Stimuli, load_stimuli

logger = logging.getLogger(__name__)

_LOADERS: dict[str, Callable] = {
    "alice2016": _alice.load_responses,
    "kriegeskorte2008": _kriegeskorte.load_responses,
    "simulated": _simulated.load_responses,
}


def list_datasets() -> pd.DataFrame:
    """List the brain data sets that netphys knows.

    Returns
    -------
    table : DataFrame
        One row per data set: title, modality, n_participants, order, megabytes, licence, doi,
        citation, origin, version.

    Examples
    --------
    >>> list(list_datasets().index)
    ['alice2016', 'kriegeskorte2008', 'simulated']
    """
    rows = [
        {
            "name": entry.name,
            "title": entry.title,
            "modality": entry.modality,
            "n_participants": entry.n_participants,
            "order": entry.order,
            "megabytes": round(entry.n_bytes / 1e6, 1),
            "licence": entry.licence,
            "doi": entry.doi,
            "citation": entry.citation,
            "origin": entry.origin,
            "version": entry.version,
        }
        for entry in read_registry().values()
    ]
    return pd.DataFrame(rows).set_index("name")


def describe_dataset(name: str) -> str:
    """Return what a data set is, its origin, its licence, and how to cite it.

    Parameters
    ----------
    name : str
        A data set of `list_datasets`.

    Returns
    -------
    text : str
        A few lines.
    """
    return get_entry(name).describe()


def fetch_dataset(
    name: str, *, folder: str | os.PathLike | None = None, progress: bool = True
) -> Path:
    """Download a data set from its origin.

    Every file is verified against its SHA-256 and put in place only then; files that are there
    already are kept, so that an interrupted download goes on where it was. Licence and citation
    are logged, and written to ``ORIGIN.txt`` beside the data.

    Parameters
    ----------
    name : str
        A data set of `list_datasets`.
    folder : path-like, optional
        Where to put it, in a folder of its name; the environment variable ``NETPHYS_DATA`` then
        has to name `folder`. Left out: the user's cache.
    progress : bool
        Show a progress bar.

    Returns
    -------
    path : Path
        Folder of the data set.

    Raises
    ------
    ImportError
        If pooch is not installed.
    ConnectionError
        If the origin cannot be reached, or does not have the file.
    ValueError
        If the name is unknown, or a file is not the one it was.
    """
    entry = get_entry(name)
    if entry.shipped:
        logger.info("%s ships with netphys: there is nothing to fetch.", name)
        return find_folder(entry)
    if folder is not None:
        check_type("folder", folder, (str, os.PathLike), "the path of a folder")
    path = (find_cache() if folder is None else Path(folder).expanduser()) / name
    fetch_files(entry, path, progress=progress)
    return path


def find_dataset(name: str) -> Path:
    """Find a data set on this machine and verify all of its files.

    Parameters
    ----------
    name : str
        A data set of `list_datasets`.

    Returns
    -------
    path : Path
        ``$NETPHYS_DATA/<name>`` where there is that folder, else the folder in the user's cache.

    Raises
    ------
    FileNotFoundError
        If it is not there; the message says how to get it, and its licence.
    ValueError
        If a file is damaged.
    """
    entry = get_entry(name)
    folder = find_folder(entry)
    read_files(entry, folder)
    return folder


def load_brain(name: str, **options: object) -> xr.Dataset:
    """Load the brain data of a data set.

    Parameters
    ----------
    name : str
        A data set of `list_datasets`.
    **options : object
        "alice2016": `radius`, 6 (default) or 10 mm, of the regions.

    Returns
    -------
    brain : Dataset
        "simulated": `responses` (participant, region, trial, unit), with `stimulus_id` on trial.
        "kriegeskorte2008": `rdm` (condition, condition_2, participant) of human IT, each person's
        two sessions averaged; `group_rdm` of all four, `monkey_rdm`, and `model_rdm` of eight
        stored models.
        "alice2016": `responses` (participant, time, region), `motion` (participant, time,
        component), and the authors' predictors `sound_power`, `word_rate` and `rate_conv` (time).
        `time` is the middle of each TR in seconds of the stimulus clock.
        Attributes: order ("iid" or "ordered"), modality, licence, citation, doi, origin, version,
        sha256 of the files read, excluded (who was left out and why, as JSON), and others.

    Raises
    ------
    FileNotFoundError
        If the data set is not on this machine; nothing is downloaded here.
    ValueError
        If the name or an option is unknown, or a file is damaged.

    Notes
    -----
    In "alice2016" people with constant series are left out (s33). The authors' further exclusions
    of single regions are listed in the supplement of their paper and are not applied. Their
    predictors are sampled at the beginning of each TR, 1 s before `time`; sound power and word rate
    differ between people by rounding alone, so that there is one series of each; `word_rate` (of
    the files s##-rate.txt) and `rate_conv` (of the file of predictors) differ (r = .98).

    Examples
    --------
    >>> brain = load_brain("simulated")
    >>> dict(brain["responses"].sizes)
    {'participant': 12, 'region': 2, 'trial': 96, 'unit': 40}
    """
    entry = get_entry(name)
    load = _LOADERS[name]
    _check_options(name, load, options)
    dataset, paths = load(entry, _make_reader(entry), **options)
    facts = ("title", "version", "modality", "order", "licence", "citation", "doi", "origin")
    dataset.attrs |= {"name": name} | {fact: getattr(entry, fact) for fact in facts}
    dataset.attrs["sha256"] = compute_digest(entry, paths)
    for variable in ("responses", "rdm"):
        if variable in dataset:
            keep = {k: dataset.attrs[k] for k in ("order", "tr") if k in dataset.attrs}
            dataset[variable].attrs |= keep
    return dataset


def load_brain_stimuli(name: str, **options: object) -> Stimuli:
    """Load what the participants of a data set were shown, ready to be shown to a subject.

    Parameters
    ----------
    name : str
        A data set of `list_datasets`.
    **options : object
        "alice2016": `context_words`, how many words to show before each word (40). 0: every word
        form once, alone.

    Returns
    -------
    stimuli : Stimuli
        "simulated": the shipped sentences. "kriegeskorte2008": 92 images in the order of the RDMs,
        with category, human, face, animal and natural (0 or 1). "alice2016": one row per word,
        with onset and duration (seconds, stimulus clock), n_characters, word_form and context.

    Raises
    ------
    FileNotFoundError
        If the data set is not on this machine.
    ValueError
        If the name or an option is unknown, or a file is damaged.

    Notes
    -----
    The words of "alice2016" come from an alignment that has no punctuation, so neither texts nor
    contexts have any. Clitics are joined to their word ("did" and "n't" are one). The column
    `word_form` tells which row of the words alone (``context_words=0``) belongs to each word.

    Examples
    --------
    >>> load_brain_stimuli("simulated")
    <Stimuli 'builtin:sentences': 96 x text; columns stimulus_id, condition, text, n_words>
    """
    entry = get_entry(name)
    read = _make_reader(entry)
    if name == "alice2016":
        _check_options(name, _alice.make_stimuli_table, options)
        stimuli = load_stimuli(_alice.make_stimuli_table(read, **options))
    elif name == "kriegeskorte2008":
        _check_options(name, _kriegeskorte.load_images, options)
        table, images = _kriegeskorte.load_images(read)
        stimuli = load_stimuli(table, arrays=images, kind="image")
    else:
        _check_options(name, lambda: None, options)
        return load_stimuli("builtin:sentences")
    return dataclasses.replace(stimuli, name=name)


def _make_reader(entry: Entry) -> Callable[[Iterable[str]], dict[str, bytes]]:
    return lambda paths: read_files(entry, find_folder(entry), paths)


def _check_options(name: str, function: Callable, options: Mapping[str, object]) -> None:
    parameters = inspect.signature(function).parameters.values()
    known = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY]
    for option in options:
        if not known:
            raise ValueError(
                f"{option}={options[option]!r}: {name!r} has no options. Leave it out."
            )
        check_option("option", option, known, f"They are the options of {name!r}.")
