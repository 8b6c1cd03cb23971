"""What results ask to be cited: the entries of `citations.toml` as BibTeX."""

from __future__ import annotations

import tomllib
from importlib import resources

from netphys._check import check_option
from netphys._version import read_version


def _load_entries() -> dict[str, dict[str, str]]:
    """Return kind and fields of every entry by its key."""
    text = resources.files("netphys.data").joinpath("citations.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)


ENTRIES = _load_entries()


def get_bibtex(*keys: str) -> str:
    """Return entries of the table as BibTeX.

    Parameters
    ----------
    *keys : str
        Keys of the table, such as "netphys" or "nili2014".

    Returns
    -------
    text : str
        Entries in the order of the keys, a blank line between them.

    Raises
    ------
    ValueError
        If a key is not in the table.

    Examples
    --------
    >>> print(get_bibtex("schutt2023").splitlines()[0])
    @article{schutt2023,
    """
    for key in keys:
        check_option("key", key, ENTRIES)
    return "\n\n".join(_format(key) for key in keys)


def _format(key: str) -> str:
    fields = dict(ENTRIES[key])
    kind = fields.pop("kind")
    fields = fields | ({"note": f"Software, version {read_version()}"} if key == "netphys" else {})
    lines = "\n".join(f"  {name:<13} = {{{value}}}," for name, value in fields.items())
    return f"@{kind}{{{key},\n{lines}\n}}"
