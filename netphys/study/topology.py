"""A study of topology: do descriptors of RDMs tell layers apart across networks, under noise?"""

from __future__ import annotations

from collections.abc import Mapping

from netphys._options import SUBJECT
from netphys.analysis.rsa import RDM, compute_layer_rdms
from netphys.analysis.tolerance import NoiseTolerance, identify_under_noise
from netphys.core.topology.transform import make_grid
from netphys.data.cohort import Cohort
from netphys.data.result import Result
from netphys.data.session import Session
from netphys.protocol import Protocol

CONTROL = "control"  # name of the result of the networks that are controls


def identify_layers(
    protocol: Protocol, sessions: Mapping[str, Session], *, progress: bool = True
) -> dict[str, Result]:
    """Identify layers across the networks of a protocol, and across its controls.

    Parameters
    ----------
    protocol : Protocol
        Its table ``[topology]`` names the networks and the options.
    sessions : mapping of str to Session
        "subject", twins and others by the names of their sessions.
    progress : bool
        Show progress bars.

    Returns
    -------
    results : dict of str to Result
        "layers": RDMs of the networks, dims (condition, condition_2, layer, seed); "tolerance":
        identification of layers across them under noise; "control": the same of the controls,
        where there are any.
    """
    table = protocol.topology
    rdms = make_layers(protocol, sessions, table.networks)
    results: dict[str, Result] = {
        "layers": rdms,
        "tolerance": _identify(protocol, rdms, progress=progress),
    }
    if table.controls:
        rdms = make_layers(protocol, sessions, table.controls)
        results[CONTROL] = _identify(protocol, rdms, progress=progress)
    return results


def make_layers(protocol: Protocol, sessions: Mapping[str, Session], names: tuple[str, ...]) -> RDM:
    """Compute the RDMs of all layers of several networks.

    Parameters
    ----------
    protocol : Protocol
        Says which sessions are seeds of one network.
    sessions : mapping of str to Session
        All that were recorded.
    names : tuple of str
        "subject", and names of twins and others.

    Returns
    -------
    rdm : RDM
        Dims (condition, condition_2, layer, seed); `seed` holds the names of the sessions.

    Raises
    ------
    ValueError
        If two of them have the same weights.
    """
    seeds = {other.name: list(other.session_names) for other in protocol.others}
    members = [one for name in names for one in seeds.get(name, [name])]
    seen: dict[str, str] = {}
    for name in members:
        digest = sessions[name].provenance["subject"]["weights_sha256"]
        if digest in seen:
            raise ValueError(
                f"{name!r} and {seen[digest]!r} have the same weights. A network that is left out "
                "must not be among the others: leave one of them out."
            )
        seen[digest] = name
    cohort = Cohort({name: sessions[name] for name in members})
    table = protocol.topology
    return compute_layer_rdms(cohort, sites=table.sites, metric=table.metric)


def check_networks(protocol: Protocol) -> None:
    """Raise where networks of a topology study are the same ones.

    Parameters
    ----------
    protocol : Protocol
        With a table ``[topology]``.

    Raises
    ------
    ValueError
        If a network is in there twice, with the same weights.
    """
    own = protocol.subject
    made = {SUBJECT: (own.name, own.init, own.seed)}
    made |= {t.name: (own.name, t.init, t.seed) for t in protocol.twins}
    for other in protocol.others:
        for name, seed in other.session_names.items():
            made[name] = (other.get_subject(seed), other.init, seed)
    table = protocol.topology
    seeds = {other.name: list(other.session_names) for other in protocol.others}
    for key in ("networks", "controls"):
        seen: dict[tuple, str] = {}
        for name in (one for n in getattr(table, key) for one in seeds.get(n, [n])):
            network, init, seed = made[name]
            weights = (network, init, None if init == "trained" else seed)
            if weights in seen:
                raise ValueError(
                    f"topology.{key}: {name!r} and {seen[weights]!r} are the same network "
                    f"({network!r}, {init}). A network that is left out must not be among the "
                    "others: leave one of them out."
                )
            seen[weights] = name


def _identify(protocol: Protocol, rdms: RDM, *, progress: bool) -> NoiseTolerance:
    table = protocol.topology
    return identify_under_noise(
        rdms,
        descriptors=table.descriptors,
        noise=table.noise,
        n_draws=table.n_draws,
        grid=make_grid(table.n_levels),
        n_permutations=table.n_null,
        rng=table.seed,
        progress=progress,
    )
