"""Updates of second moments within and between sites, and the second subject for the latter."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from netphys._check import check_type
from netphys.core.online import CrossCovariance, Gram
from netphys.recording.capture import Capture, hold_still
from netphys.recording.online.batch import BatchInfo
from netphys.recording.online.rows import TensorState, mark_finite
from netphys.recording.rows import SiteShape, find_shape
from netphys.recording.sites import Site, select_sites
from netphys.recording.subject import Subject

if TYPE_CHECKING:
    from collections.abc import Sequence

_ROWS = 2048  # in one product: each goes over the whole matrix once


def update_gram(statistic: Gram, state: TensorState, rows: torch.Tensor, batch: BatchInfo) -> None:
    """Add rows to `Gram`.

    Parameters
    ----------
    statistic : Gram
        The options.
    state : dict of str to Tensor
        Changed in place.
    rows : Tensor, shape (n_samples, n_units)
        Any floating type.
    batch : BatchInfo
        Not needed.
    """
    _add_products(state, (rows,), ("mean",), {"product": (0, 0)})


def update_cross_covariance(
    statistic: CrossCovariance,
    state: TensorState,
    rows: tuple[torch.Tensor, torch.Tensor],
    batch: BatchInfo,
) -> None:
    """Add rows to `CrossCovariance`.

    Parameters
    ----------
    statistic : CrossCovariance
        The options.
    state : dict of str to Tensor
        Changed in place.
    rows : tuple of Tensor, shapes (n_samples, n_units) and (n_samples, n_other)
        Of both sites.
    batch : BatchInfo
        Not needed.

    Raises
    ------
    ValueError
        If the sites do not have equally many samples.
    """
    if len(rows[0]) != len(rows[1]):
        raise ValueError(
            f"site={statistic.site!r} has {len(rows[0])} samples and "
            f"other_site={statistic.other_site!r} has {len(rows[1])}. Choose sites on one clock."
        )
    products = {"product": (0, 0), "other_product": (1, 1), "cross": (0, 1)}
    device = state["mean"].device
    both = tuple(r.to(device) for r in rows)
    _add_products(state, both, ("mean", "other_mean"), products)


def _add_products(
    state: TensorState,
    sites: Sequence[torch.Tensor],
    means: Sequence[str],
    products: dict[str, tuple[int, int]],
) -> None:
    """Add products about the running means, by Chan's rule with its last term as one more row."""
    kept = torch.ones(len(sites[0]), dtype=torch.bool, device=sites[0].device)
    for rows in sites:
        finite = mark_finite(rows)
        if finite is not None:
            kept &= finite.all(1)
    if not kept.all():
        state["n_nonfinite"] += (~kept).sum()
        sites = [rows[kept] for rows in sites]
    for begin in range(0, len(sites[0]), _ROWS):
        parts = [rows[begin : begin + _ROWS].to(torch.float64) for rows in sites]
        b = len(parts[0])
        a = state["n"].to(torch.float64)
        centred = []
        for x, name in zip(parts, means, strict=True):
            mean = x.mean(0)
            delta = mean - state[name]
            last = delta * torch.sqrt(a * b / (a + b))
            centred.append(torch.cat([x - mean, last[None]]))
            state[name] += delta * (b / (a + b))
        for name, (first, second) in products.items():
            state[name].addmm_(centred[first].T, centred[second])
        state["n"] += b


class OtherSite:
    """A site of a second subject that is shown what the first one sees.

    Parameters
    ----------
    subject : Subject
        The second one; left as it was.
    name : str
        Its site.
    """

    def __init__(self, subject: Subject, name: str):
        check_type("other", subject, Subject, "what load_subject returns")
        found = select_sites(subject.model, [name])
        if len(found) > 1:
            names = ", ".join(s.name for s in found[:3])
            raise ValueError(
                f"other_site={name!r} names {len(found)} sites of {subject.name!r} ({names} ...). "
                "Give one of them."
            )
        self._subject, self._site = subject, found[0]
        self._shape: SiteShape | None = None

    def check_tokens(self, subject: Subject) -> None:
        """Raise unless both subjects read token ids alike.

        Parameters
        ----------
        subject : Subject
            The one that is recorded.

        Raises
        ------
        ValueError
            If they are one model, or their vocabularies differ.
        """
        if subject.model is self._subject.model:
            raise ValueError(
                f"other={self._subject.name!r} is the subject that is recorded. Leave other= out "
                "to compare two of its sites, or load it a second time."
            )
        one, two = subject.tokenizer, self._subject.tokenizer
        if one is not None and two is not None and one.get_vocab() != two.get_vocab():
            raise ValueError(
                f"other={self._subject.name!r} has another vocabulary than {subject.name!r}: the "
                "same token ids are other words. Choose subjects that share a tokenizer."
            )
        size = [getattr(s.config, "vocab_size", None) for s in (subject, self._subject)]
        if None not in size and size[1] < size[0] and (one is None or two is None):
            raise ValueError(
                f"other={self._subject.name!r} knows {size[1]} tokens, {subject.name!r} {size[0]}. "
                "Choose subjects that share a tokenizer."
            )

    def count_units(self, batch: BatchInfo) -> int:
        """Return the number of units, from one discarded pass.

        Parameters
        ----------
        batch : BatchInfo
            Any batch of the run.

        Returns
        -------
        n_units : int
            Of the site.
        """
        return self.run(batch).shape[1]

    def run(self, batch: BatchInfo) -> torch.Tensor:
        """Show the subject a batch and return the rows of the site.

        Parameters
        ----------
        batch : BatchInfo
            With `inputs`.

        Returns
        -------
        rows : Tensor, shape (n_samples, n_units)
            In the model's type.

        Raises
        ------
        ValueError
            If the batch has no inputs.
        """
        if batch.inputs is None:
            raise ValueError(
                "other= needs the inputs of the batch, which are not there. Give BatchInfo(inputs="
                "(args, kwargs), n_trials=, n_positions=)."
            )
        found: list[torch.Tensor] = []

        def take(site: Site, value: torch.Tensor) -> None:
            size = batch.n_trials, batch.n_positions
            if self._shape is None:
                sequence = batch.n_positions > 1 or len(batch) > batch.n_trials
                self._shape = find_shape(
                    site, value, *size, sequence=sequence, n_keys=size[1], dtype="native"
                )
            rows = self._shape.to_rows(value, *size)
            if batch.mask is not None and self._shape.is_sequence:
                rows = rows[torch.from_numpy(batch.mask.reshape(-1)).to(rows.device)]
            found.append(rows)

        def move(value: object) -> object:
            return value.to(self._subject.device) if isinstance(value, torch.Tensor) else value

        args, kwargs = batch.inputs
        model = self._subject.model
        with hold_still(model), Capture(model, [self._site], take) as capture:
            capture.start()
            model(*(move(a) for a in args), **{k: move(v) for k, v in kwargs.items()})
            capture.check()
        return found[0]
