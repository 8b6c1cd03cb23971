"""What an RSA study found, in words, pictures and tables."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import numpy as np

from netphys._options import SUBJECT
from netphys.analysis.comparison import Comparison
from netphys.analysis.evaluation import Evaluation
from netphys.analysis.rdm import RDM
from netphys.brain.match_result import RSAMatch
from netphys.core.resample import MIN_SEEDS
from netphys.data.result import Result
from netphys.protocol import Protocol
from netphys.report import Picture, format_number, format_p, make_picture
from netphys.study.geometry import STORED
from netphys.study.parts import Findings, Part, say_difference, show

MAX_RDMS = 6  # pictures of RDMs in a report
ALPHA = 0.05


def find_findings(protocol: Protocol, results: Mapping[str, Result]) -> Findings:
    """Compose the findings of an RSA study.

    Parameters
    ----------
    protocol : Protocol
        What was done.
    results : mapping of str to Result
        "rdms", "match", "evaluation", and where there are monkeys "monkey" and "species".

    Returns
    -------
    findings : Findings
        Ready for the report.
    """
    match: RSAMatch = results["match"]
    region = match.regions[0] if match.regions else None
    headline = _say_best(match, region, "the brain's")
    truth = match.provenance.get("true_layer")
    if truth:
        headline += _say_truth(match, region, truth)
    return Findings(
        headline=headline,
        control=_say_twin(match, region) + _say_others(results.get("controls"), region),
        results=_show_rdms(results["rdms"], str(_pick(match, region)[1]["site"].item())),
        match=_show_match(results),
        controls=_show_controls(results, truth),
        holds_for=_say_holds_for(protocol, results),
    )


def _pick(match: RSAMatch, region: str | None):
    """Return the statistics of one region, and those of its best network layer."""
    stats = match.stats if region is None else match.stats.sel(region=region)
    recorded = [i for i, m in enumerate(stats["model"].to_numpy()) if not m.endswith(STORED)]
    networks = stats.isel(layer=recorded)
    return stats, networks.isel(layer=int(np.nanargmax(networks["mean"].to_numpy())))


def _say_best(match: RSAMatch, region: str | None, whose: str) -> str:
    """Name the matched layer with the geometry closest to `whose`, or say that none is close."""
    stats, best = _pick(match, region)
    place = f" in region {region!r}" if region else ""
    score = f"{match.data.attrs['units']} {show(float(best['mean']))}"
    p = float(best["p_max"]) if "p_max" in stats else np.nan
    if np.isfinite(p):
        n = stats.sizes["layer"]
        over = f" corrected over {n} candidates" if n > 1 else ""
        score += f", {format_p(p, symbol='p')}{over}"
    if p >= ALPHA:
        return (
            f"No matched layer is reliably similar to {whose} geometry{place}; the highest is "
            f"{best['layer'].item()} ({score})."
        )
    return (
        f"Of the matched layers, {best['layer'].item()} has the geometry closest to {whose}{place}:"
        f" {score}."
    )


def _say_truth(match: RSAMatch, region: str | None, truth: str) -> str:
    if truth not in match.data["site"].to_numpy().tolist():
        return f" The brain was simulated from {truth}, which was not matched."
    found = str(_pick(match, region)[1]["site"].item()) == truth
    return (
        f" The brain was simulated from {truth}: the match "
        f"{'recovered' if found else 'did not recover'} the true layer."
    )


def _say_twin(match: RSAMatch, region: str | None) -> str:
    stats, best = _pick(match, region)
    several = len(set(stats["model"].to_numpy().tolist())) > 1
    own = not several or best["model"].item() == SUBJECT
    name = f"The subject's {best['site'].item()}" if own else str(best["layer"].item())
    if "twin_difference" not in stats or not np.isfinite(float(best["twin_difference"])):
        return f"{name} has no untrained twin to be compared with."
    low, high = best["twin_interval"].to_numpy() if "twin_interval" in best else (np.nan, np.nan)
    twin = "the same layer of the untrained twin"
    return say_difference(name, twin, float(best["twin_difference"]), float(low), float(high))


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


def _show_rdms(rdms: RDM, best: str) -> Part:
    layers = [str(v) for v in rdms.data["layer"].to_numpy()]
    shown = _choose_layers(layers, best)
    n = rdms.data.sizes["condition"]
    some = f"{len(shown)} of {len(layers)} layers" if len(shown) < len(layers) else "each layer"
    picture = make_picture(
        [partial(_draw_layer, rdms, name, best) for name in shown],
        caption=f"Dissimilarity of the activity patterns that {n} stimuli evoke, in {some} of the "
        "subject. Each panel has its own scale. Conditions are in the order of the stimulus table.",
        alt=f"Heat maps of the RDMs of {', '.join(shown)}",
        size=(4.2, 3.7),
    )
    text = (
        f"A representational dissimilarity matrix (RDM) says which of the {n} stimuli a layer "
        "tells apart, and how well."
    )
    return Part((text,), (picture,))


def _choose_layers(layers: list[str], best: str) -> list[str]:
    """Return at most MAX_RDMS layers, spread over depth, the best among them."""
    if len(layers) <= MAX_RDMS:
        return layers
    index = np.linspace(0, len(layers) - 1, MAX_RDMS).round().astype(int)
    if best in layers:
        index[np.abs(index - layers.index(best)).argmin()] = layers.index(best)
    return [layers[i] for i in index]


def _draw_layer(rdms: RDM, name: str, best: str, ax):
    rdms.select(layer=name).plot(ax)
    ax.set_title(f"{name} (closest to the brain)" if name == best else name, fontsize=10)
    return ax


def _show_match(results: Mapping[str, Result]) -> Part:
    match: RSAMatch = results["match"]
    pictures = _draw_matches(match, "the people of the dataset")
    tables = _tabulate(match, "people")
    pictures += _draw_evaluation(results)
    text = [_say_best(match, region, "the people's") for region in match.regions or [None]]
    text += [_say_ceiling(match), _say_evaluation(results)]
    seeds = int(match.data["seed_n"].to_numpy().max())
    if seeds > 1:
        few = "; so few say nothing of other seeds" if seeds < MIN_SEEDS else ""
        text.append(f"Networks with several seeds are shown by their mean over {seeds} seeds{few}.")
    if "monkey" in results:
        monkey: RSAMatch = results["monkey"]
        pictures += _draw_matches(monkey, "monkey IT")
        tables |= _tabulate(monkey, "monkey IT")
        text.append(_say_best(monkey, None, "monkey IT's"))
    if "species" in results:
        species: Comparison = results["species"]
        text.append(
            f"Human and monkey IT agree with {species.data.attrs.get('units', 'r')} "
            f"{format_number(float(species.data), digits=4)}."
        )
    return Part(tuple(text), tuple(pictures), tables)


def _split_evaluation(results: Mapping[str, Result]) -> dict[str, Evaluation]:
    """Return the evaluation of each region, by what its caption says of the place."""
    found: Evaluation = results["evaluation"]
    if "region" not in found.extra_dims:
        return {"": found}
    names = found.data["region"].to_numpy().tolist()
    return {f", region {name}": found.select(region=name) for name in names}


def _draw_evaluation(results: Mapping[str, Result]) -> list[Picture]:
    pictures = []
    for place, found in _split_evaluation(results).items():
        n = found.data.sizes["model"]
        what = "Points: participants; band: noise ceiling; dots: p < .05 against chance, corrected"
        pictures.append(
            make_picture(
                found.plot,
                caption=f"Models{place}: similarity of RDMs with those of people. {what}"
                "; triangles: below the ceiling's lower bound.",
                alt=f"Bars of {n} models{place}",
                size=(max(5.6, 0.55 * n + 2), 5.2),
            )
        )
    return pictures


def _say_evaluation(results: Mapping[str, Result]) -> str:
    """Say how many models differ, and which reach the ceiling."""
    said = []
    for place, found in _split_evaluation(results).items():
        s, names = found.stats, found.data["model"].to_numpy()
        if "difference_p_bh" not in s:
            return f"Models were not compared in pairs: intervals {found.params['interval']}."
        n = len(names)
        apart = int((s["difference_p_bh"].to_numpy() < ALPHA).sum()) // 2
        text = f"Of {n * (n - 1) // 2} pairs of models{place} {apart} differ (BH, p < .05)"
        if "p_ceiling" in s:
            short = (s["p_ceiling"] >= ALPHA) | (s["mean"] > s["ceiling"].sel(bound="lower"))
            reach = names[short.to_numpy()]
            text += f"; {len(reach)} cannot be told from the noise ceiling"
            text += f": {', '.join(map(str, reach))}" if 0 < len(reach) <= 6 else ""
        said.append(text + ".")
    return " ".join(said)


def _say_ceiling(match: RSAMatch) -> str:
    if "ceiling" not in match.stats:
        return f"Noise ceiling: {match.params['ceiling']}."
    said = []
    for region in match.regions or [None]:
        bounds = match.stats["ceiling"]
        low, high = (bounds if region is None else bounds.sel(region=region)).to_numpy()
        place = f" in region {region!r}" if region else ""
        said.append(f"{show(low)} to {show(high)}{place}")
    return (
        f"Noise ceiling ({match.data.attrs['units']} of one person with the others, "
        f"{match.params['ceiling']}): {'; '.join(said)}."
    )


def _draw_matches(match: RSAMatch, what: str) -> list[Picture]:
    n_layers = match.data.sizes["layer"]
    longest = max(len(str(name)) for name in match.data["layer"].to_numpy())
    marks = ["Points: participants" if match.params["n_participants"] > 1 else "Points: the RDM"]
    if "interval" in match.stats:
        marks.append(f"bars: 95 % intervals, {' and '.join(match.params['generalize'])} resampled")
    marks += ["band: noise ceiling"] if "ceiling" in match.stats else []
    marks += ["hollow: untrained twin"] if "twin_score" in match.stats else []
    marks += ["stars: p < .05, corrected over candidates"] if "p_max" in match.stats else []
    return [
        make_picture(
            partial(match.plot, region=region),
            caption=f"Match with {what}{f', region {region}' if region else ''}: similarity of "
            f"RDMs per candidate. {'; '.join(marks)}.",
            alt=f"Scores of {n_layers} candidates {f'in region {region}' if region else ''}",
            size=(max(5.6, 0.42 * n_layers + 2), 3.4 + 0.06 * longest),
        )
        for region in match.regions or [None]
    ]


def _tabulate(match: RSAMatch, what: str) -> dict:
    return {
        f"Match with {what}{f', region {region}' if region else ''}": match.to_table(
            region=region
        ).drop(columns="model", errors="ignore")
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
    twin, whose = str(match.params["twin"]), "the people's"
    if twin != "given":
        text.append(f"Untrained twin: {twin}.")
    for region in match.regions[1:]:
        text.append(f"{_say_best(match, region, whose)} {_say_twin(match, region)}")
    if truth:
        text.append(
            "The region 'noise' of the simulated brain holds noise alone: a corrected p-value "
            "below .05 there would be a false alarm."
        )
    return Part(tuple(text))


def _say_holds_for(protocol: Protocol, results: Mapping[str, Result]) -> tuple[str, ...]:
    match: RSAMatch = results["match"]
    text = [f"It holds for {match.params['holds_for']}."]
    if "monkey" in results:
        text.append(
            "Monkey IT is one stored mean over animals: intervals resample the stimuli, and "
            "nothing is said of other animals."
        )
    if match.params["n_participants"] < 6 and "participants" not in match.params["generalize"]:
        text.append(
            f"{match.params['n_participants']} people are shown as "
            f"{match.params['n_participants']} points: nothing is claimed of other people."
        )
    if "p_max" in match.stats:
        text.append(
            f"p_max is corrected for choosing among {match.data.sizes['layer']} candidates "
            "(maximum statistic). Intervals at the best layer are not corrected for that choice, "
            "and the curve over layers is descriptive."
        )
    if len(protocol.twins) == 1:
        text.append(
            "The untrained twin is one draw of random weights: nothing is said of other draws."
        )
    elif protocol.twins:
        text.append(f"The twin's score is the mean over {len(protocol.twins)} draws of weights.")
    text.append(
        "Similar geometry means that the same stimuli are told apart, not that the same "
        "computation does it."
    )
    return tuple(text)
