"""Protocols: one TOML file says which subject is recorded, with which stimuli, and how."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

from netphys._check import check_type
from netphys._options import ISOLATED, SEED, SUBJECT
from netphys._protocol_file import SCHEMA, Document, ProtocolError, read_document
from netphys._toml_lines import KeyPath
from netphys._topology_table import TopologyTable, build_topology

__all__ = [
    "MatchTable",
    "OtherTable",
    "Protocol",
    "ProtocolError",
    "RecordTable",
    "StimuliTable",
    "SubjectTable",
    "TopologyTable",
    "TwinTable",
    "load_protocol",
    "make_protocol",
]


@dataclass(frozen=True, kw_only=True)
class SubjectTable:
    """The table ``[subject]``: which network is recorded.

    Parameters
    ----------
    name : str
        Hugging Face id, folder (absolute once loaded) or ``builtin:`` name.
    init : {"trained", "random", "shuffled"}
        Weights: as stored, drawn anew, or shuffled.
    seed : int
        Seed of a random or shuffled network.
    dtype : {"float32", "float16", "bfloat16"} or None
        Precision of the weights; None leaves them as stored.
    device : str
        Torch device, such as ``cpu`` or ``cuda:0``.
    revision : str or None
        Revision of a Hugging Face repository.
    trust_remote_code : bool
        Whether code that comes with a model may run.
    """

    name: str
    init: str = "trained"
    seed: int = 0
    dtype: str | None = None
    device: str = "cpu"
    revision: str | None = None
    trust_remote_code: bool = False


@dataclass(frozen=True, kw_only=True)
class TwinTable:
    """One table ``[[twins]]``: the subject again with other weights, shown the same stimuli.

    Parameters
    ----------
    name : str
        File stem of the twin's session.
    init : {"trained", "random", "shuffled"}
        Weights: as stored, drawn anew, or shuffled.
    seed : int
        Seed of a random or shuffled network.
    """

    name: str
    init: str = "random"
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class OtherTable:
    """One table ``[[others]]``: another network, or several seeds of one, shown the same stimuli.

    Parameters
    ----------
    name : str
        File stem of its session; with several seeds each adds ``-<seed>``.
    subject : str
        Hugging Face id, folder (absolute once loaded) or ``builtin:`` name; ``{seed}`` in it stands
        for each of `seeds`, where every seed that was trained from has weights of its own.
    init : {"trained", "random", "shuffled"}
        Weights: as stored, drawn anew, or shuffled.
    seeds : tuple of int
        Seeds of a random or shuffled network, or of `subject`; more than one makes a cohort.
    sites : tuple of str
        Where it is recorded; as the subject if left out.
    """

    name: str
    subject: str
    init: str = "trained"
    seeds: tuple[int, ...] = (0,)
    sites: tuple[str, ...] = ()

    @property
    def session_names(self) -> dict[str, int]:
        """Name of the session of every seed."""
        if len(self.seeds) == 1:
            return {self.name: self.seeds[0]}
        return {f"{self.name}-{seed}": seed for seed in self.seeds}

    def get_subject(self, seed: int) -> str:
        """Return the name of the network of one seed.

        Parameters
        ----------
        seed : int
            One of `seeds`.

        Returns
        -------
        name : str
            `subject` with the seed in its place.
        """
        return self.subject.replace(SEED, str(seed))


@dataclass(frozen=True, kw_only=True)
class StimuliTable:
    """The table ``[stimuli]``: what is shown.

    Parameters
    ----------
    source : str
        Path of a TSV file (absolute once loaded), ``builtin:`` name or ``dataset:`` name: the
        stimuli of a brain dataset.
    context_words : int or None
        Preceding words that each word of a dataset is shown with; None leaves it to the dataset.
    """

    source: str
    context_words: int | None = None


@dataclass(frozen=True, kw_only=True)
class RecordTable:
    """The table ``[record]``: where the electrodes go and what is stored.

    Parameters
    ----------
    sites : tuple of str
        Site kinds, module paths or patterns of them; in a file that leaves them out, those of
        ``[match]``, else "resid".
    dtype : {"native", "float32", "float16", "bfloat16", "int8"}
        Stored precision; ``native`` stores what the network computes.
    batch_size : int
        Largest number of stimuli in one forward pass.
    nonfinite : {"raise", "keep"}
        What happens when a value is not finite.
    store : tuple of str
        In which forms activations are stored; empty: none of them.
    units : dict of str to list of int
        Units to record of a site, kind or pattern; all of the others.
    threshold : float, dict of str to float or list of float, or None
        What a unit exceeds in a raster.
    top_k : int
        Units that the form "top" keeps.
    online : tuple of str or dict
        Statistics that are kept while samples go by: names, or tables with options.
    generate : dict or None
        How the network goes on from every prompt; None: it does not.
    compile : bool
        Whether the model is compiled.
    max_memory : int or None
        Bytes that the recording may take beside the model.
    """

    sites: tuple[str, ...] = ("resid",)
    dtype: str = "native"
    batch_size: int = 8
    nonfinite: str = "raise"
    store: tuple[str, ...] = ("samples",)
    units: dict[str, list[int]] = field(default_factory=dict, hash=False)
    threshold: float | dict[str, object] | None = field(default=None, hash=False)
    top_k: int = 32
    online: tuple[str | dict[str, object], ...] = field(default=(), hash=False)
    generate: dict[str, object] | None = field(default=None, hash=False)
    compile: bool = False
    max_memory: int | None = None

    def to_options(self) -> dict[str, object]:
        """Return the options of `netphys.record`, but for the sites.

        Returns
        -------
        options : dict
            Those that are not set are left out.
        """
        options = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "sites"}
        options |= {"store": self.store or None, "units": self.units or None}
        if self.max_memory is None:
            del options["max_memory"]
        return options


@dataclass(frozen=True, kw_only=True)
class MatchTable:
    """The table ``[match]``: which brain data the sessions are compared with, and how.

    Parameters
    ----------
    dataset : str
        Name of a brain dataset.
    analysis : {"rsa", "encoding"}
        Compare geometries, or predict responses.
    sites : tuple of str
        Sites that are matched, in order of depth.
    metric : {"correlation", "euclidean", "cosine"}
        Dissimilarity of activity patterns (RSA).
    method : {"pearson", "spearman", "rho-a", "cosine"}
        Similarity of RDMs (RSA).
    targets : tuple of str
        What is predicted: each "participant", the mean of the "group" (encoding).
    generalize : tuple of str
        What is resampled for intervals: "stimuli", "participants" (RSA).
    n_null : int or None
        Draws under the null hypothesis, at least 19; None leaves it to the analysis, 0 leaves it
        out.
    n_bootstraps : int
        Bootstrap draws, at least 19.
    seed : int
        Seed of all draws.
    """

    dataset: str
    analysis: str
    sites: tuple[str, ...] = ("embed", "resid")
    metric: str = "correlation"
    method: str = "spearman"
    targets: tuple[str, ...] = ("participant",)
    generalize: tuple[str, ...] = ("stimuli",)
    n_null: int | None = None
    n_bootstraps: int = 1000
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """What a TOML protocol says, checked and with every default filled in.

    Parameters
    ----------
    schema : int
        Version of the protocol format.
    title, description, question : str
        Words for people; the question heads the report.
    subject : SubjectTable
        Which network is recorded.
    twins : tuple of TwinTable
        Controls recorded on the same stimuli.
    others : tuple of OtherTable
        Other networks shown the same stimuli.
    stimuli : StimuliTable
        What is shown.
    record : RecordTable
        Where and how it is recorded.
    match : MatchTable or None
        Which brain data the sessions are compared with; None: with none.
    topology : TopologyTable or None
        Across which networks layers are identified; None: across none.
    path : Path or None
        The file that the protocol was read from; not part of the JSON.
    """

    schema: int = SCHEMA
    title: str = ""
    description: str = ""
    question: str = ""
    subject: SubjectTable
    twins: tuple[TwinTable, ...] = ()
    others: tuple[OtherTable, ...] = ()
    stimuli: StimuliTable
    record: RecordTable = field(default_factory=RecordTable)
    match: MatchTable | None = None
    topology: TopologyTable | None = None
    path: Path | None = field(default=None, compare=False)
    _written: dict[str, str] = field(default_factory=dict, compare=False, repr=False)

    @property
    def analysis(self) -> str | None:
        """What is done with the sessions: "rsa", "encoding", "topology"; None: nothing."""
        return "topology" if self.topology else self.match.analysis if self.match else None

    def to_json(self) -> str:
        """Return the protocol as JSON with sorted keys, as it is stored in session files.

        Returns
        -------
        text : str
            The same for equal protocols wherever their folder lies: paths that the TOML file gives
            relative to itself stay relative.
        """
        content = asdict(self)
        del content["path"], content["_written"]
        for table, key in (("subject", "name"), ("stimuli", "source")):
            value = content[table][key]
            content[table][key] = self._written.get(value, value)
        for other in content["others"]:
            other["subject"] = self._written.get(other["subject"], other["subject"])
        return json.dumps(content, sort_keys=True, indent=2, ensure_ascii=False)


def load_protocol(source: str | os.PathLike[str], *, overrides: Iterable[str] = ()) -> Protocol:
    """Read a protocol and check every key of it.

    Parameters
    ----------
    source : str or path
        Path of a TOML file, or the bare name of a shipped protocol such as ``quickstart``.
    overrides : iterable of str
        Changes such as ``"record.batch_size=4"``, applied in order. The value is read as TOML, else
        taken as a string. Relative paths among them start at the working directory, those in the
        file at its folder. Twins and others can only be left out: ``"twins=[]"``.

    Returns
    -------
    protocol : Protocol
        The protocol with every default filled in.

    Raises
    ------
    ProtocolError
        If the file is missing or not TOML in UTF-8, or if a key or value is not allowed. The
        message names the file, the line or override, and the key.
    TypeError
        If `source` is no path or `overrides` is a single string.

    Examples
    --------
    >>> from netphys import load_protocol
    >>> protocol = load_protocol("quickstart", overrides=["record.batch_size=4"])
    >>> protocol.subject.name, protocol.record.batch_size
    ('builtin:language', 4)
    """
    check_type("source", source, (str, os.PathLike), "the path of a TOML file or a shipped name")
    if isinstance(overrides, str):
        raise TypeError(f"overrides={overrides!r} is a str. Give a list of them.")
    document = read_document(source, overrides)
    words, written = document.words(), {}
    tables = {name: document.table(name) for name in ("subject", "stimuli", "record")}
    _check_online(document, tables["record"].get("online", ()))
    for table, key in (("subject", "name"), ("stimuli", "source")):
        tables[table][key] = _absolute(document, (table, key), tables[table][key], written)
    subject = SubjectTable(**tables["subject"])
    twins = _build_twins(document, subject)
    others = _build_others(document, twins, written)
    match, topology = _build_match(document), build_topology(document, twins, others)
    for table, study in (("match", match), ("topology", topology)):
        if study is not None:
            document.record_for(table, tables["record"], study.sites)
    return Protocol(
        **words,
        subject=subject,
        twins=twins,
        stimuli=StimuliTable(**tables["stimuli"]),
        others=others,
        record=RecordTable(**tables["record"]),
        match=match,
        topology=topology,
        path=document.path,
        _written=written,
    )


def make_protocol(content: str) -> Protocol:
    """Make a protocol from its JSON, such as a result carries.

    Parameters
    ----------
    content : str
        What `Protocol.to_json` returned.

    Returns
    -------
    protocol : Protocol
        Equal to the one that was written, paths as they were written.
    """
    tables = json.loads(content)
    match, topology = tables.pop("match"), tables.pop("topology", None)
    return Protocol(
        subject=SubjectTable(**tables.pop("subject")),
        twins=tuple(TwinTable(**t) for t in tables.pop("twins")),
        others=tuple(OtherTable(**_to_tuples(t)) for t in tables.pop("others")),
        stimuli=StimuliTable(**tables.pop("stimuli")),
        record=RecordTable(**_to_tuples(tables.pop("record"))),
        match=None if match is None else MatchTable(**_to_tuples(match)),
        topology=None if topology is None else TopologyTable(**_to_tuples(topology)),
        **tables,
    )


def _to_tuples(table: dict[str, object]) -> dict[str, object]:
    return {k: tuple(v) if isinstance(v, list) else v for k, v in table.items()}


def _build_twins(document: Document, subject: SubjectTable) -> tuple[TwinTable, ...]:
    twins: list[TwinTable] = []
    for n, table in enumerate(document.tables("twins")):
        twin = TwinTable(**table)
        place = f"twins[{n}].name={twin.name!r}"
        if twin.name.casefold() in (SUBJECT, ISOLATED):
            document.fail(
                ("twins", n, "name"), f"{place} is the name of another session. Choose another."
            )
        if twin.name.casefold() in {t.name.casefold() for t in twins}:
            document.fail(
                ("twins", n, "name"),
                f"{place} is given twice (letter case does not count). Choose another.",
            )
        if _weights(twin) == _weights(subject):
            document.fail(
                ("twins", n, "init"),
                f"twins[{n}].init={twin.init!r} with this seed gives the weights of the subject "
                "itself. Choose another init or seed.",
            )
        twins.append(twin)
    return tuple(twins)


def _build_others(
    document: Document, twins: tuple[TwinTable, ...], written: dict[str, str]
) -> tuple[OtherTable, ...]:
    others: list[OtherTable] = []
    taken = {SUBJECT, ISOLATED, *(t.name.casefold() for t in twins)}
    for n, table in enumerate(document.tables("others")):
        table["subject"] = _absolute(document, ("others", n, "subject"), table["subject"], written)
        other = OtherTable(**table)
        if other.init == "trained" and len(other.seeds) > 1 and SEED not in other.subject:
            document.fail(
                ("others", n, "seeds"),
                f"others[{n}].seeds={list(other.seeds)} are seeds of random or shuffled weights; "
                "trained ones are the same for all. Leave seeds out, choose another init, or write "
                f"{SEED} in the name of a subject that has weights for each.",
            )
        for name in dict.fromkeys([other.name, *other.session_names]):
            if name.casefold() in taken:
                document.fail(
                    ("others", n, "name"),
                    f"others[{n}].name={other.name!r} needs the name {name!r}, which is taken "
                    "already (letter case does not count). Choose another.",
                )
            taken.add(name.casefold())
        others.append(other)
    return tuple(others)


def _build_match(document: Document) -> MatchTable | None:
    return MatchTable(**document.table("match")) if "match" in document.content else None


def _check_online(document: Document, online: Iterable[str | dict[str, object]]) -> None:
    for n, given in enumerate(online):
        from netphys.core.online import make_statistic  # here: it takes its time to load

        try:
            make_statistic(given)
        except (TypeError, ValueError) as error:
            document.fail(("record", "online"), f"record.online[{n}]={given!r}: {error}")


def _weights(network: SubjectTable | TwinTable) -> tuple[str, int]:
    return (network.init, 0 if network.init == "trained" else network.seed)


def _absolute(document: Document, key: KeyPath, value: str, written: dict[str, str]) -> str:
    """Return `value` with a relative path made absolute; `written` gets what the file says."""
    if key[-1] in ("name", "subject"):
        relative = re.match(r"\.\.?(?:[/\\]|$)", value) is not None
    else:
        relative = not value.startswith(("builtin:", "dataset:"))
    if not relative:
        return value
    place = str((document.folder_of(key) / value).resolve())
    if key not in document.overridden:
        written[place] = value
    return place
