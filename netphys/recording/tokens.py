"""Generated tokens on disk: a log beside the session while they are sampled, then the session."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
import transformers

from netphys.data.session import open_session
from netphys.recording.writer import explain_disk_error


@dataclass(frozen=True)
class Sampled:
    """What was generated to a batch of prompts.

    Parameters
    ----------
    tokens : list of list of int
        Per trial its tokens, with the one that ended it.
    stops : list of str
        "eos" or "limit".
    digest : str
        SHA-256 of the logits of all steps.
    pad : int
        Token that stands in a trial after its end while others go on.
    """

    tokens: list[list[int]]
    stops: list[str]
    digest: str
    pad: int


class TokenLog:
    """A file of one line per sampled batch, so that an interrupted sampling goes on.

    Parameters
    ----------
    path : Path
        The session file; the log is ``.<name>.tokens`` beside it.
    key : dict
        What the tokens depend on; a log with another key begins anew.

    Attributes
    ----------
    batches : dict of str to Sampled
        What is there.
    """

    def __init__(self, path: Path, key: Mapping[str, object]):
        self.batches: dict[str, Sampled] = {}
        self._session, self._path = path, find_log(path)
        self._head = json.dumps({**key, **_describe_machine()}, sort_keys=True)

    def __enter__(self) -> TokenLog:
        with self._explained():
            self._open()
        return self

    def _open(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        lines = self._path.read_text(encoding="utf-8").split("\n") if self._path.exists() else [""]
        if lines[0] == self._head:
            for line in lines[1:-1]:  # the last is empty, or was cut short
                name, fields = json.loads(line)
                self.batches[name] = Sampled(**fields)
        kept = [[name, dataclasses.asdict(s)] for name, s in self.batches.items()]
        self._file = self._path.open("w", encoding="utf-8")
        self._file.write("\n".join([self._head, *map(json.dumps, kept), ""]))

    def __exit__(self, *exc) -> None:
        self._file.close()
        if not self.batches:  # nothing to go on with
            self._path.unlink()

    def add(self, name: str, sampled: Sampled) -> None:
        """Write a batch.

        Parameters
        ----------
        name : str
            Key of the batch.
        sampled : Sampled
            What was generated.
        """
        self.batches[name] = sampled
        with self._explained():
            self._file.write(json.dumps([name, dataclasses.asdict(sampled)]) + "\n")
            self._file.flush()

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise explain_disk_error(error, self._session) from error


def find_log(path: Path) -> Path:
    """Return the name of the log of a session file.

    Parameters
    ----------
    path : Path
        The session file.

    Returns
    -------
    log : Path
        Whether it exists or not.
    """
    return path.with_name(f".{path.name}.tokens")


def load_sampled(path: Path, key: Mapping[str, object]) -> dict[str, Sampled]:
    """Read the tokens of a session that is to be gone on with.

    Parameters
    ----------
    path : Path
        A session file.
    key : dict
        What the tokens depend on.

    Returns
    -------
    batches : dict of str to Sampled
        Per batch.

    Raises
    ------
    ValueError
        If the session was generated in another way.
    """
    session = open_session(path)
    facts = session.provenance.get("generate") or {}
    for name, now in key.items():
        if facts.get(name) != now:
            raise ValueError(
                f"path={os.fspath(path)!r} cannot be resumed: generate {name} was "
                f"{_short(facts.get(name))} and is now {_short(now)}. Record to another path, or "
                "replace it with overwrite=True."
            )
    found = {}
    for (_, rows), digest in zip(
        session.trial_table.groupby("batch", sort=True), facts["logits_sha256"], strict=True
    ):
        tokens = [[int(t) for t in ids.split()] for ids in rows["generated_token_ids"]]
        name = " ".join(map(str, rows["stimulus_index"]))
        found[name] = Sampled(tokens, list(rows["stop_reason"]), digest, facts["pad"])
    return found


def _describe_machine() -> dict[str, object]:
    """Return what else sampled tokens depend on."""
    return {
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "threads": torch.get_num_threads(),
        "processor": torch.backends.cpu.get_cpu_capability(),
    }


def _short(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 100 else text[:97] + "..."
