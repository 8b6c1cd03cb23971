"""What an RSA study found, in words, pictures and tables."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import numpy as np

from netphys.analysis.comparison import Comparison
from netphys.analysis.rdm import RDM
from netphys.brain.match_result import RSAMatch
from netphys.data.result import Result
from netphys.protocol import Protocol
from netphys.report import Picture, format_number, format_p, make_picture
from netphys.study.geometry import STORED
from netphys.study.parts import Findings, Part, say_difference

MAX_RDMS = 6  # pictures of RDMs in a report


def find_findings(protocol: Protocol, results: Mapping[str, Result]) -> Findings:
    """Compose the findings of an RSA study.

    Parameters
    ----------
    protocol : Protocol
        What was done.
    results : mapping of str to Result
        "rdms", "match", and where there are monkeys "monkey" and "species".

    Returns
    -------
    findings : Findings
        Ready for the report.
    """
    match: RSAMatch = results["match"]
    region = match.regions[0] if match.regions else None
    headline = _say_best(match, region)
    truth = match.provenance.get("true_layer")
    if truth:
        headline += _say_truth(match, region, truth)
    return Findings(
        headline=headline,
        control=_say_twin(match, region) + _say_others(results.get("controls"), region),
        results=_show_rdms(results["rdms"]),
        match=_show_match(results),
        controls=_show_controls(results, truth),
        holds_for=_say_holds_for(results),
    )


def _pick(match: RSAMatch, region: str | None):
    """Return the statistics of one region, and those of its best network layer."""
    stats = match.stats if region is None else match.stats.sel(region=region)
    recorded = [i for i, m in enumerate(stats["model"].to_numpy()) if not m.endswith(STORED)]
    networks = stats.isel(layer=recorded)
    return stats, networks.isel(layer=int(np.nanargmax(networks["mean"].to_numpy())))


def _say_best(match: RSAMatch, region: str | None) -> str:
    stats, best = _pick(match, region)
    name = str(best["layer"].item())
    place = f" in region {region!r}" if region else ""
    p = f", {format_p(float(best['p_max']), symbol='p')}" if "p_max" in stats else ""
    return (
        f"Of all recorded layers, {name} has the geometry closest to the brain's{place}: "
        f"{match.data.attrs['units']} {format_number(float(best['mean']))}{p} (corrected over "
        f"{stats.sizes['layer']} candidates)."
    )


def _say_truth(match: RSAMatch, region: str | None, truth: str) -> str:
    best = str(_pick(match, region)[1]["layer"].item())
    if best.split(": ")[-1] == truth:
        return f" The brain was simulated from {truth}: the match recovered the true layer."
    return f" The brain was simulated from {truth}: the match did not recover the true layer."


def _say_twin(match: RSAMatch, region: str | None) -> str:
    stats, best = _pick(match, region)
    name = str(best["layer"].item())
    if "twin_difference" not in stats or not np.isfinite(float(best["twin_difference"])):
        return f"{name} has no untrained twin to be compared with."
    low, high = best["twin_interval"].to_numpy() if "twin_interval" in best else (np.nan, np.nan)
    return say_difference(
        f"Trained {name}",
        "the same layer of the untrained twin",
        float(best["twin_difference"]),
        float(low),
        float(high),
    )


def _say_others(controls: RSAMatch | None, region: str | None) -> str:
    """Compare the subject's best layer with the best layer of every other network."""
    if controls is None:
        return ""
    stats = controls.stats if region is None else controls.stats.sel(region=region)
    said = []
    for name in dict.fromkeys(stats["model"].to_numpy().tolist()):
        own = stats.isel(layer=(stats["model"] == name).to_numpy())
        best = own.isel(layer=int(np.nanargmax(own["mean"].to_numpy())))
        low, high = best["twin_interval"].to_numpy() if "twin_interval" in best else (np.nan,) * 2
        said.append(
            say_difference(
                f"The subject's {best['site'].item()}",
                f"the best layer of {name}",
                float(best["twin_difference"]),
                float(low),
                float(high),
            )
        )
    return " " + " ".join(said)


def _show_rdms(rdms: RDM) -> Part:
    layers = [str(v) for v in rdms.data["layer"].to_numpy()]
    shown = layers
    if len(layers) > MAX_RDMS:
        shown = [layers[i] for i in np.linspace(0, len(layers) - 1, MAX_RDMS).round().astype(int)]
    panels = [partial(_draw_layer, rdms, name) for name in shown]
    n = rdms.data.sizes["condition"]
    picture = make_picture(
        panels,
        caption=f"Dissimilarities between the activity patterns of {n} stimuli in "
        f"{len(shown)} of {len(layers)} layers of the subject ({rdms.data.attrs.get('units', '')})",
        alt=f"Heat maps of the RDMs of {', '.join(shown)}",
        size=(4.2, 3.7),
    )
    return Part((f"RDMs of the subject, {n} stimuli by {n} stimuli.",), (picture,))


def _draw_layer(rdms: RDM, name: str, ax):
    one = rdms.select(layer=name)
    one.plot(ax)
    ax.set_title(name, fontsize=10)
    return ax


def _show_match(results: Mapping[str, Result]) -> Part:
    match: RSAMatch = results["match"]
    pictures = _draw_matches(match, "people of the dataset")
    tables = _tabulate(match, "people")
    text = [match.summary().split("\n\n")[0]]
    if "monkey" in results:
        monkey: RSAMatch = results["monkey"]
        pictures += _draw_matches(monkey, "monkey IT")
        tables |= _tabulate(monkey, "monkey IT")
        text.append(_say_best(monkey, None))
    if "species" in results:
        species: Comparison = results["species"]
        text.append(
            f"Human and monkey IT agree with {species.data.attrs.get('units', 'r')} "
            f"{format_number(float(species.data), digits=4)}."
        )
    return Part(tuple(text), tuple(pictures), tables)


def _draw_matches(match: RSAMatch, what: str) -> list[Picture]:
    n_layers = match.data.sizes["layer"]
    longest = max(len(str(name)) for name in match.data["layer"].to_numpy())
    generalize = " and ".join(match.params["generalize"]) or "nothing"
    return [
        make_picture(
            partial(match.plot, region=region),
            caption=f"Match with {what}{f', region {region}' if region else ''}: similarity of "
            f"RDMs per candidate. Points: participants; bars: 95 % intervals, {generalize} "
            "resampled; band: noise ceiling; hollow: untrained twin; stars: p < .05 corrected over "
            "candidates.",
            alt=f"Scores of {n_layers} candidates {f'in region {region}' if region else ''}",
            size=(max(5.6, 0.42 * n_layers + 2), 3.4 + 0.06 * longest),
        )
        for region in match.regions or [None]
    ]


def _tabulate(match: RSAMatch, what: str) -> dict:
    return {
        f"Match with {what}{f', region {region}' if region else ''}": match.to_table(region=region)
        for region in match.regions or [None]
    }


def _show_controls(results: Mapping[str, Result], truth: str | None) -> Part:
    match: RSAMatch = results["match"]
    others: RSAMatch | None = results.get("controls")
    text = [
        _say_twin(match, region) + _say_others(others, region)
        for region in match.regions[:1] or [None]
    ]
    stored = [str(n) for n in match.data["layer"].to_numpy() if str(n).endswith(STORED)]
    if stored:
        scores = match.stats["mean"].sel(layer=stored).to_series().sort_values(ascending=False)
        listed = ", ".join(
            f"{n.removesuffix(STORED)} {format_number(v)}" for n, v in scores.items()
        )
        text.append(
            f"Stored models of the dataset for comparison, some of them made of category labels "
            f"or of other brains: {listed}."
        )
    twin = str(match.params["twin"])
    if twin != "given":
        text.append(f"Untrained twin: {twin}.")
    for region in match.regions[1:]:
        text.append(f"Region {region!r}: {_say_best(match, region)} {_say_twin(match, region)}")
    if truth:
        text.append(
            "The region 'noise' of the simulated brain holds noise alone: a p-value below .05 "
            "there would be a false alarm."
        )
    return Part(tuple(text))


def _say_holds_for(results: Mapping[str, Result]) -> tuple[str, ...]:
    match: RSAMatch = results["match"]
    text = [f"It holds for {match.params['holds_for']}."]
    if "monkey" in results:
        text.append(f"Monkey IT: it holds for {results['monkey'].params['holds_for']}.")
    if match.params["n_participants"] < 6 and "participants" not in match.params["generalize"]:
        text.append(
            f"{match.params['n_participants']} people are shown as "
            f"{match.params['n_participants']} points: nothing is claimed of other people."
        )
    if len(set(match.data["model"].to_numpy().tolist())) > 1:
        text.append(
            f"The best of {match.data.sizes['layer']} candidates is corrected for the choice by "
            "the maximum statistic; the curve over layers is descriptive."
        )
    else:
        text.append("The curve over layers is descriptive; only the best layer's p is corrected.")
    text.append(
        "Alike geometry says that the same stimuli are told apart, not that they are so in the "
        "same way."
    )
    return tuple(text)
