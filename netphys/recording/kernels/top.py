"""The largest units of each sample, in an order that ties do not change."""

from __future__ import annotations

import torch

_LOW = (1 << 32) - 1


def find_top(wide: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Find the `k` largest values of each row.

    Parameters
    ----------
    wide : Tensor of float32 or float64, shape (n, n_units)
        Values; NaN counts as larger than all others, as in torch.
    k : int
        How many.

    Returns
    -------
    index : Tensor of int64, shape (n, k)
        Units in descending order of value; of equal ones the lower index comes first.
    value : Tensor, shape (n, k)
        Their values.
    """
    more = min(k + 1, wide.shape[1])
    value, index = torch.topk(wide, more, dim=1)
    before, after = value[:, :-1], value[:, 1:]
    tied = ((before == after) | after.isnan()).any(1).nonzero()[:, 0]
    value, index = value[:, :k], index[:, :k]
    if len(tied):  # torch leaves open which of equal values it gives
        rows = wide[tied]
        exact = sort_keys(rows, k) if wide.dtype == torch.float32 else _sort_all(rows, k)
        index, value = index.clone(), value.clone()
        index[tied] = exact
        value[tied] = rows.gather(1, exact)
    return index, value


def _sort_all(rows: torch.Tensor, k: int) -> torch.Tensor:
    return rows.sort(dim=1, descending=True, stable=True).indices[:, :k]


def sort_keys(rows: torch.Tensor, k: int) -> torch.Tensor:
    """Return the order of float32 rows through one integer per value: its rank, then its index.

    Parameters
    ----------
    rows : Tensor of float32, shape (n, n_units)
        Values, on any device.
    k : int
        How many.

    Returns
    -------
    index : Tensor of int64, shape (n, k)
        As in `find_top`.
    """
    plain = torch.where(rows.isnan(), torch.nan, rows + 0.0)  # one NaN, one zero
    bits = plain.view(torch.int32)
    rank = (bits ^ ((bits >> 31) & 0x7FFFFFFF)).long()
    key = (rank << 32) | (_LOW - torch.arange(rows.shape[1], device=rows.device))
    return _LOW - (torch.topk(key, k, dim=1).values & _LOW)
