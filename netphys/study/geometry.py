"""An RSA study: from the sessions of a protocol to a match of layers with a brain."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import xarray as xr

from netphys._options import SUBJECT
from netphys.analysis.comparison import compare_rdms
from netphys.analysis.evaluate import evaluate
from netphys.analysis.evaluation import Evaluation
from netphys.analysis.rsa import RDM, compute_layer_rdms, compute_rdm, to_rdm
from netphys.brain.datasets import load_brain
from netphys.brain.match import match_rdms
from netphys.brain.match_result import RSAMatch
from netphys.core.resample import MIN_SEEDS, MIN_STIMULI
from netphys.data.cohort import Cohort
from netphys.data.result import Result
from netphys.data.session import Session
from netphys.protocol import Protocol
from netphys.study.prediction import describe_brain

STORED = " (stored)"  # ends the names of models that come with a dataset


def match_geometry(protocol: Protocol, sessions: Mapping[str, Session]) -> dict[str, Result]:
    """Compute layer RDMs and match them to the brain data that a protocol names.

    Parameters
    ----------
    protocol : Protocol
        Its table ``[match]`` names the dataset and the options.
    sessions : mapping of str to Session
        "subject", twins and others by the names of their sessions.

    Returns
    -------
    results : dict of str to Result
        "rdms" of the subject's layers; "match" with the people of the dataset; "evaluation" of
        whole models on them; "controls", the subject against the other networks, where there are
        any; where the dataset has them "monkey", the match with monkey IT, and "species", the
        people's RDM against the monkeys'.
    """
    table = protocol.match
    brain = load_brain(table.dataset)
    models = make_models(protocol, sessions)
    twins = make_twins(protocol, sessions)
    options = {
        "twin": {SUBJECT: twins} if twins is not None else None,
        "method": table.method,
        "n_permutations": 1000 if table.n_null is None else table.n_null,
        "n_bootstraps": table.n_bootstraps,
        "rng": table.seed,
    }
    results: dict[str, Result] = {"rdms": models[SUBJECT]}
    if "model_rdm" in brain:
        models |= _split_models(brain["model_rdm"])
    people = make_brain_rdm(brain, table.metric)
    options["generalize"] = table.generalize
    results["match"] = match_rdms(models, people, **options)
    results["evaluation"] = evaluate_models(models, people, options, twins=twins)
    if protocol.others:
        results["controls"] = compare_networks(protocol, models, results["match"], people, options)
    options["generalize"] = tuple(f for f in table.generalize if f != "participants")
    if "monkey_rdm" in brain:
        monkey = to_rdm(brain["monkey_rdm"].assign_attrs(order=brain.attrs["order"]))
        ours = {name: rdm for name, rdm in models.items() if not _is_of_monkeys(name)}
        results["monkey"] = match_rdms(ours, monkey, **options)
        results["species"] = compare_rdms(
            to_rdm(brain["group_rdm"]), monkey, method="pearson", rng=table.seed
        )
    facts = {"dataset": describe_brain(brain)}
    if "true_layer" in brain.attrs:
        facts["true_layer"] = str(brain.attrs["true_layer"])
    return {
        name: replace(result, provenance={**result.provenance, **facts})
        for name, result in results.items()
    }


def evaluate_models(
    models: Mapping[str, RDM],
    people: RDM,
    options: Mapping[str, object],
    *,
    twins: RDM | None,
) -> Evaluation:
    """Evaluate whole models on the people: with ceiling, and every pair of models compared.

    Each layer of a network is a candidate, with p-values corrected over all of them; seeds are
    averaged. `evaluate(flexible={"subject": "selected"})` chooses a layer on other stimuli and
    people than it is tested on, at the cost of a fit per draw.

    Parameters
    ----------
    models : mapping of str to RDM
        Of `make_models`, and those stored with the dataset.
    people : RDM
        Of `make_brain_rdm`.
    options : mapping of str to object
        Of `match_rdms`.
    twins : RDM or None
        Of `make_twins`; evaluated beside the subject where there is one.

    Returns
    -------
    evaluation : Evaluation
        A model per network, stored model and twin.
    """
    alone = twins is not None and twins.data.sizes.get("seed", 1) == 1
    seeds = [rdm.data.sizes["seed"] for rdm in models.values() if "seed" in rdm.data.dims]
    factors = list(options["generalize"])
    factors += ["seeds"] if seeds and min(seeds) >= MIN_SEEDS else []
    if people.data.sizes["condition"] < MIN_STIMULI:
        factors = [f for f in factors if f == "seeds"]
    return evaluate(
        models,
        people,
        method=options["method"],
        twin={SUBJECT: twins} if alone else None,
        generalize=factors,
        n_permutations=options["n_permutations"],
        n_bootstraps=options["n_bootstraps"],
        rng=options["rng"],
    )


def compare_networks(
    protocol: Protocol,
    models: Mapping[str, RDM],
    match: RSAMatch,
    people: RDM,
    options: Mapping[str, object],
) -> RSAMatch:
    """Compare every layer of the subject with the best layer of each other network.

    Parameters
    ----------
    protocol : Protocol
        Names the other networks.
    models : mapping of str to RDM
        Of `make_models`.
    match : RSAMatch
        Their match with the people, which says what the best layers are.
    people : RDM
        Of `make_brain_rdm`.
    options : mapping of str to object
        Of `match_rdms`.

    Returns
    -------
    controls : RSAMatch
        A model per other network: the subject's layers, that network's best layer as their twin.
        To take the best is in favour of the other network.
    """
    subject, twins = models[SUBJECT], {}
    layers = subject.data["layer"].to_numpy()
    mean = match.stats["mean"]
    mean = mean.mean("region") if "region" in mean.dims else mean
    for other in protocol.others:
        own = mean.isel(layer=(mean["model"] == other.name).to_numpy())
        best = str(own["site"].to_numpy()[int(np.nanargmax(own.to_numpy()))])
        one = models[other.name].data.sel(layer=[best])
        tiled = xr.concat([one] * len(layers), dim="layer").assign_coords(layer=layers)
        twins[other.name] = replace(models[other.name], data=tiled, stats=xr.Dataset())
    named = {name: subject for name in twins}
    match = match_rdms(named, people, **{**options, "twin": twins})
    return replace(
        match, params={**match.params, "compared_with": "the best layer of that network"}
    )


def make_models(protocol: Protocol, sessions: Mapping[str, Session]) -> dict[str, RDM]:
    """Compute the layer RDMs of the subject and of the other networks.

    Parameters
    ----------
    protocol : Protocol
        Says which sessions are seeds of one network.
    sessions : mapping of str to Session
        All that were recorded.

    Returns
    -------
    rdms : dict of str to RDM
        Dims (condition, condition_2, layer), with seed where there are several.
    """
    table = protocol.match
    rdms = {SUBJECT: compute_layer_rdms(sessions[SUBJECT], sites=table.sites, metric=table.metric)}
    for other in protocol.others:
        own = _join(sessions, list(other.session_names))
        sites = other.sites or table.sites
        rdms[other.name] = compute_layer_rdms(own, sites=sites, metric=table.metric)
    return rdms


def make_twins(protocol: Protocol, sessions: Mapping[str, Session]) -> RDM | None:
    """Compute the layer RDMs of the subject's untrained twins.

    Parameters
    ----------
    protocol : Protocol
        Names the twins.
    sessions : mapping of str to Session
        All that were recorded.

    Returns
    -------
    rdm : RDM or None
        With seed where there are several twins; None where there is none.
    """
    table = protocol.match
    names = [t.name for t in protocol.twins]
    if not names:
        return None
    return compute_layer_rdms(_join(sessions, names), sites=table.sites, metric=table.metric)


def _join(sessions: Mapping[str, Session], names: list[str]) -> Session | Cohort:
    """Return the session of one network, or the cohort of several seeds of it."""
    if len(names) == 1:
        return sessions[names[0]]
    return Cohort({name: sessions[name] for name in names})


def make_brain_rdm(brain: xr.Dataset, metric: str) -> RDM:
    """Return the RDMs of a dataset's participants, computed where it holds responses.

    Parameters
    ----------
    brain : Dataset
        Of `load_brain`, with `rdm` or `responses`.
    metric : str
        Dissimilarity of response patterns.

    Returns
    -------
    rdm : RDM
        Dims (condition, condition_2, participant), and region where the dataset has it.
    """
    if "rdm" in brain:
        return to_rdm(brain["rdm"])
    return compute_rdm(brain["responses"], by="stimulus_id", metric=metric)


def _is_of_monkeys(name: str) -> bool:
    return name.endswith(STORED) and "monkey" in name.lower()


def _split_models(stored: xr.DataArray) -> dict[str, RDM]:
    """Return stored model RDMs, each as a model of one layer."""
    return {
        f"{name}{STORED}": to_rdm(stored.sel(model=name, drop=True))
        for name in stored["model"].to_numpy().tolist()
    }
