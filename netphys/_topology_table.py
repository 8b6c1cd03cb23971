"""The table ``[topology]`` of a protocol: whose layers are told apart, and under what noise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from netphys._check import suggest
from netphys._options import DESCRIPTORS, SUBJECT
from netphys._protocol_file import Document

if TYPE_CHECKING:
    from netphys.protocol import OtherTable, TwinTable

MIN_NETWORKS = 4  # one is left out, and thresholds are chosen by leaving out another


@dataclass(frozen=True, kw_only=True)
class TopologyTable:
    """The table ``[topology]``: layers are identified across networks by descriptors of their RDMs.

    Parameters
    ----------
    networks : tuple of str
        Names of the networks that layers are identified across, four at least in all: "subject",
        and names of ``[[twins]]`` and ``[[others]]``; all seeds of these.
    controls : tuple of str
        The same of networks that are controls; empty: none.
    sites : tuple of str
        Sites to tell apart, in order of depth.
    metric : {"correlation", "euclidean", "cosine"}
        Dissimilarity of activity patterns.
    descriptors : tuple of str
        Some of "rdm", "ranked", "rgtm" and "rgdm".
    noise : tuple of float
        SDs of noise added to RDMs, in SDs of all dissimilarities.
    n_draws : int
        Draws of the noise at each level.
    n_levels : int
        Levels of the grid of thresholds from 0 to 1.
    n_null : int
        Permutations of labels, at least 19, or 0 for none.
    seed : int
        Seed of all draws.
    """

    networks: tuple[str, ...]
    controls: tuple[str, ...] = ()
    sites: tuple[str, ...] = ("embed", "resid")
    metric: str = "correlation"
    descriptors: tuple[str, ...] = DESCRIPTORS
    noise: tuple[float, ...] = (0.0, 0.1, 0.2, 0.3, 0.4)
    n_draws: int = 20
    n_levels: int = 11
    n_null: int = 199
    seed: int = 0


def build_topology(
    document: Document, twins: tuple[TwinTable, ...], others: tuple[OtherTable, ...]
) -> TopologyTable | None:
    """Return the checked table of a document; None where it has none."""
    if "topology" not in document.content:
        return None
    if "match" in document.content:
        document.fail(
            ("topology",),
            "[topology] and [match] are two studies. Leave one of them out, and write it in a "
            "protocol of its own.",
        )
    table = TopologyTable(**document.table("topology"))
    sizes = {SUBJECT: 1, **{t.name: 1 for t in twins}, **{o.name: len(o.seeds) for o in others}}
    for key in ("networks", "controls"):
        names = getattr(table, key)
        for n, name in enumerate(names):
            if name not in sizes:
                document.fail(
                    ("topology", key),
                    f"topology.{key}[{n}]={name!r} is no network of this protocol. Choose among "
                    f"{', '.join(map(repr, sizes))}.{suggest(name, sizes)}",
                )
        count = sum(sizes[name] for name in names)
        if names and count < MIN_NETWORKS:
            document.fail(
                ("topology", key),
                f"topology.{key}={list(names)} is {count} network{'s' if count > 1 else ''} in "
                f"all. At least {MIN_NETWORKS} are needed: give [[others]] more seeds.",
            )
    for n, other in enumerate(others):
        if other.sites and other.name in (*table.networks, *table.controls):
            document.fail(
                ("others", n, "sites"),
                f"others[{n}].sites={list(other.sites)} has no part in [topology], where all "
                "networks are recorded at the sites of [record]. Leave it out.",
            )
    if both := [name for name in table.controls if name in table.networks]:
        document.fail(
            ("topology", "controls"),
            f"topology.controls has {both[0]!r}, which is among topology.networks. Name it in one "
            "of them.",
        )
    return table
