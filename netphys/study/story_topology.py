"""What a study of topology found, in words, pictures and tables."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import numpy as np

from netphys.analysis._identify import ADAPTIVE
from netphys.analysis.rdm import RDM
from netphys.analysis.tolerance import NoiseTolerance
from netphys.data.result import Result
from netphys.protocol import Protocol
from netphys.report import Picture, format_p, make_picture
from netphys.study.parts import Findings, Part, say_difference, show
from netphys.study.topology import CONTROL

MAX_RDMS = 6  # pictures of RDMs in a report
ALPHA = 0.05


def find_findings(protocol: Protocol, results: Mapping[str, Result]) -> Findings:
    """Compose the findings of a study of topology.

    Parameters
    ----------
    protocol : Protocol
        What was done.
    results : mapping of str to Result
        "layers", "tolerance", and "control" where there are controls.

    Returns
    -------
    findings : Findings
        Ready for the report.
    """
    found: NoiseTolerance = results["tolerance"]
    control: NoiseTolerance | None = results.get(CONTROL)
    return Findings(
        headline=_say_main(found),
        control=_say_control(found, control),
        results=_show_rdms(results["layers"]),
        match=_show_identification(found),
        controls=_show_controls(found, control),
        holds_for=_say_holds_for(found),
        heading="Identification",
    )


def _say_main(found: NoiseTolerance) -> str:
    """Say how well layers are told apart without and with the most noise."""
    p, said = found.params, []
    for level in dict.fromkeys((min(found.levels), max(found.levels))):
        scores = found.stats["accuracy"].sel(noise=level)
        listed = [f"{d} {show(float(scores.sel(descriptor=d)))}" for d in found.descriptors]
        said.append(f"at noise {level:g} {', '.join(listed)}")
    topology = [d for d in found.descriptors if d in ADAPTIVE][:1]
    return (
        f"Accuracy of identifying {p['label']}s across {p['n_subjects']} networks, chance "
        f"{show(p['chance'])}: {'; '.join(said)}. {_compare(found, topology)}"
    ).strip()


def _compare(found: NoiseTolerance, names: list[str]) -> str:
    """Compare descriptors with all that have no thresholds, at the most noise."""
    high, said = max(found.levels), []
    for name in names:
        for less in (d for d in found.descriptors if d not in ADAPTIVE):
            at = found.stats.sel(descriptor=name, descriptor_2=less, noise=high)
            interval = at["difference_interval"].to_numpy().tolist()
            text = say_difference(name, less, float(at["difference"]), *interval)
            said.append(f"At noise {high:g}, {text}")
    return " ".join(said)


def _say_change(found: NoiseTolerance) -> str:
    """Say what the most noise costs each descriptor."""
    low, high = min(found.levels), max(found.levels)
    said = []
    for name in found.descriptors:
        at = found.stats.sel(descriptor=name, noise=high)
        lower, upper = at["change_interval"].to_numpy()
        said.append(f"{name} {show(float(at['change']))} ({show(lower)} to {show(upper)})")
    return (
        f"From noise {low:g} to {high:g} accuracies changed by, with 95 % intervals: "
        f"{'; '.join(said)}."
    )


def _say_control(found: NoiseTolerance, control: NoiseTolerance | None) -> str:
    said = []
    if "p" in found.stats:
        worst = float(found.stats["p"].max())
        said.append(
            f"Against labels permuted within networks, the largest p-value of all descriptors and "
            f"levels is {format_p(worst)}."
        )
    if control is None:
        said.append("There are no controls that were identified in the same way.")
        return " ".join(said)
    high = max(found.levels)
    pairs = [
        f"{d} {show(float(control.stats['accuracy'].sel(descriptor=d, noise=high)))}"
        for d in found.descriptors
    ]
    said.append(
        f"Across {control.params['n_subjects']} control networks the accuracies at noise {high:g} "
        f"are {', '.join(pairs)}: what of it is above chance needs no training."
    )
    return " ".join(said)


def _show_rdms(rdms: RDM) -> Part:
    layers = rdms.data["layer"].to_numpy().tolist()
    index = np.linspace(0, len(layers) - 1, min(MAX_RDMS, len(layers))).round().astype(int)
    shown = [layers[i] for i in index]
    first = str(rdms.data["seed"].to_numpy()[0])
    n = rdms.data.sizes["condition"]
    picture = make_picture(
        [partial(_draw_layer, rdms, first, name) for name in shown],
        caption=f"Dissimilarity of the activity patterns that {n} stimuli evoke in {len(shown)} of "
        f"{len(layers)} layers of the network {first!r}. Each panel has its own scale. Conditions "
        "are in the order of the stimulus table.",
        alt=f"Heat maps of the RDMs of {', '.join(shown)}",
        size=(4.2, 3.7),
    )
    text = (
        "A representational dissimilarity matrix (RDM) says which stimuli a layer tells apart, and "
        f"how well. There is one for each of {len(layers)} layers of {rdms.data.sizes['seed']} "
        "networks. Descriptors of it keep all of it (rdm), the order of its values (ranked), what "
        "lies between two thresholds of that order (rgtm), or paths over near stimuli (rgdm)."
    )
    return Part((text,), (picture,))


def _draw_layer(rdms: RDM, seed: str, name: str, ax):
    rdms.select(layer=name, seed=seed).plot(ax)
    ax.set_title(name, fontsize=10)
    return ax


def _show_identification(found: NoiseTolerance) -> Part:
    p, high = found.params, max(found.levels)
    grids = [d for d in found.descriptors if d in ADAPTIVE]
    marks = "Bars: 95 % intervals over networks and draws of the noise"
    if grids:
        marks += (
            "; hollow, dotted: the best pair of thresholds picked on the networks it is measured "
            "on, which is too high"
        )
    pictures = [
        make_picture(
            found.plot,
            caption=f"Accuracy of identification against noise. {marks}; dashed: chance.",
            alt="Lines of accuracy over noise, one per descriptor",
            size=(6.4, 4.8),
        )
    ]
    pictures += _draw_details(found, high)
    tables = {"Identification by descriptor and noise": found.to_table()}
    if len(found.descriptors) > 1:
        tables["Differences between descriptors with the same noise"] = found.to_differences()
    parts = found.to_parts()
    if len(parts):
        tables["Accuracy over all thresholds of a part of their plane, none of them chosen"] = parts
    text = [
        f"Each {p['label']} of a network that was left out was assigned to the nearest mean "
        f"descriptor of the other networks' {p['label']}s. Noise was drawn {p['n_noise_draws']} "
        "times at each level, and everything was done again with each draw.",
        _compare(found, grids),
    ]
    if len(found.levels) > 1:
        text.append(_say_change(found))
    if len(parts):
        text += [_say_choice(found), _say_parts(found)]
    return Part(tuple(text), tuple(pictures), tables)


def _draw_details(found: NoiseTolerance, level: float) -> list[Picture]:
    grids = [d for d in found.descriptors if d in ADAPTIVE]
    pictures = []
    if grids:
        pictures.append(
            make_picture(
                [partial(found.plot_grid, descriptor=d, noise=level) for d in grids],
                caption=f"Accuracy at each pair of thresholds, noise {level:g}, mean over draws. "
                "Circles: pairs chosen on the other networks; larger ones were chosen more often.",
                alt=f"Heat maps of accuracy over thresholds of {', '.join(grids)}",
                size=(5.4, 4.8),
            )
        )
    shown = dict.fromkeys([found.descriptors[0], (grids or found.descriptors)[0]])
    n = found.params["n_labels"]
    pictures.append(
        make_picture(
            [partial(found.plot_confusion, descriptor=d, noise=level) for d in shown],
            caption=f"Which {found.params['label']} was taken for which, noise {level:g}.",
            alt=f"Confusions of {n} {found.params['label']}s",
            size=(2.8 + 0.42 * n, 2.2 + 0.4 * n),
        )
    )
    return pictures


def _say_choice(found: NoiseTolerance) -> str:
    """Say by how much picking the best thresholds on test data is too high."""
    said = []
    for name in (d for d in found.descriptors if d in ADAPTIVE):
        s = found.stats.sel(descriptor=name)
        gain = (s["optimistic"] - s["accuracy"]).to_numpy()
        said.append(f"{name} by {show(gain.min())} to {show(gain.max())}")
    return (
        "The best pair of thresholds picked on the very networks it is measured on scores higher "
        f"than pairs chosen on the other networks: {'; '.join(said)} depending on the noise. Only "
        "the latter says what to expect of another network."
    )


def _say_parts(found: NoiseTolerance) -> str:
    """Compare thresholds that keep topology with those that keep geometry, none chosen."""
    low, high = min(found.levels), max(found.levels)
    parts, said = found.to_parts(), []
    for name in dict.fromkeys(parts["descriptor"]):
        own = parts[parts["descriptor"] == name].set_index(["part", "noise"])["accuracy"]
        listed = [
            f"{part} {show(own[part, low])} at noise {low:g}, {show(own[part, high])} at {high:g}"
            for part in ("topology", "geometry")
            if (part, low) in own.index
        ]
        said.append(f"{name}: {', '.join(listed)}")
    return (
        "Without any choice, as the mean over all thresholds of a part of their plane (topology: "
        f"lower at least 0.4, upper at most 0.6; geometry: at least 0.8 apart): {'; '.join(said)}."
    )


def _show_controls(found: NoiseTolerance, control: NoiseTolerance | None) -> Part:
    text = [_say_control(found, control)]
    if control is None:
        return Part(tuple(text))
    picture = make_picture(
        control.plot,
        caption=f"The same across {control.params['n_subjects']} control networks.",
        alt="Lines of accuracy over noise of the control networks, one per descriptor",
        size=(6.4, 4.8),
    )
    return Part(tuple(text), (picture,), {"Identification across controls": control.to_table()})


def _say_holds_for(found: NoiseTolerance) -> tuple[str, ...]:
    p = found.params
    flat = (found.stats["interval"].diff("bound") == 0).any()
    text = [
        f"It holds for networks like these {p['n_subjects']}, trained alike from other seeds, and "
        f"for these {p['n_conditions']} stimuli: stimuli were not resampled.",
        "Networks are tested on centroids made of each other, so their accuracies are not quite "
        "independent; intervals leave that out of account.",
        "The noise is one of RDMs: independent between pairs of stimuli, which noise of "
        "activations is not. Its size is the same for all layers, so layers whose dissimilarities "
        "differ little get more of it for their size.",
    ]
    if bool(flat):
        text.append(
            "An interval without width says that nothing varied here, not that nothing could."
        )
    return tuple(text)
