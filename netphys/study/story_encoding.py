"""What an encoding study found, in words, pictures and tables."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from netphys.brain.encoding_result import Encoding
from netphys.protocol import Protocol
from netphys.report import format_p, make_picture
from netphys.study.parts import Findings, Part, say_difference, show
from netphys.study.prediction import ALONE, CONTEXT, TWIN

_TARGETS = {
    "participant": "each person's own responses",
    "group": "the mean response of the group",
}


def find_findings(protocol: Protocol, results: Mapping[str, Encoding]) -> Findings:
    """Compose the findings of an encoding study.

    Parameters
    ----------
    protocol : Protocol
        What was done.
    results : mapping of str to Encoding
        By target.

    Returns
    -------
    findings : Findings
        Ready for the report.
    """
    main = next(iter(results.values()))
    model = main.models[-1]
    row = main.to_ladder().loc[model]
    where = f"{main.params['n_people']} people and {main.data.sizes['region']} regions"
    gain, tested = row["above nuisance"], pd.notna(row["p"])
    *most, last = main.params["nuisance"]
    listed = f"{', '.join(most)} and {last}" if most else last
    headline = (
        f"Features of the {model} predict {_TARGETS[main.params['target']]} with r = "
        f"{show(row['r'])} over {where}: {show(abs(gain))} {'above' if gain >= 0 else 'below'} "
        f"what {listed} predict alone"
        + (f" (against shifted responses {format_p(row['p'], symbol='p')})." if tested else ".")
    )
    return Findings(
        headline=headline,
        control=_say_controls(main),
        results=_show_ladder(results),
        match=_show_match(results),
        controls=_show_controls(results),
        holds_for=_say_holds_for(protocol, results),
    )


def _say_controls(result: Encoding) -> str:
    table = result.to_contrasts()
    said = []
    for base in (TWIN, ALONE):
        name = f"{CONTEXT} - {base}"
        if name in table.index:
            r = table.loc[name]
            what = f"the {base}" if base == TWIN else "the same word in isolation"
            said.append(
                say_difference(
                    "The word in its context", what, r["difference"], r["lower"], r["upper"]
                )
            )
    return " ".join(said) or "There is no control besides the nuisance."


def _show_ladder(results: Mapping[str, Encoding]) -> Part:
    pictures, text = [], []
    for target, result in results.items():
        text.append(_say_ladder(target, result))
        pictures.append(
            make_picture(
                [result.plot, result.plot_contrasts],
                caption=f"The ladder of models predicting {_TARGETS[target]}: within-fold r, mean "
                f"over {result.data.sizes['region']} regions. Intervals: 95 %, resampling "
                f"{result.params['intervals']}. Grey band: noise ceiling of the same target "
                "(what people share; personal motion can exceed it). Right: paired differences.",
                alt=f"Scores of {', '.join(result.models)} and their paired differences",
                size=(6.2, 4.4),
            )
        )
    return Part(tuple(text), tuple(pictures))


def _say_ladder(target: str, result: Encoding) -> str:
    table = result.to_ladder()
    steps = ", ".join(f"{name} {show(r)}" for name, r in table["r"].items())
    return f"Predicting {_TARGETS[target]}, mean within-fold r: {steps}."


def _show_match(results: Mapping[str, Encoding]) -> Part:
    pictures, tables = [], {}
    for target, result in results.items():
        pictures.append(
            make_picture(
                result.plot_regions,
                caption=f"Regions, predicting {_TARGETS[target]}. Filled: gain over the nuisance "
                "with p < .05, circular shift with refit, Benjamini-Hochberg over regions.",
                alt="Score of every model in every region beside the noise ceiling",
                size=(8.0, 4.2),
            )
        )
        tables[f"The ladder, predicting {_TARGETS[target]}"] = result.to_ladder()
        tables[f"Paired differences, predicting {_TARGETS[target]}"] = result.to_contrasts()
        tables[f"Mean r per region, predicting {_TARGETS[target]}"] = result.to_regions()
    text = (
        "r is the mean over test sets of the correlation within each; the correlation over all "
        "test sets joined stands beside it. 'r / ceiling' divides by the upper ceiling of the "
        "same target; it is left out where personal motion is among the regressors, because the "
        "ceiling bounds only what people share. 'shifted' is the mean gain over the nuisance when "
        "responses are shifted against the story: below zero, as features that carry nothing cost "
        "something. p says how often a shift gains as much as was observed, so that a gain of "
        "nearly nothing can still be more than chance gives.",
    )
    return Part(text, tuple(pictures), tables)


def _show_controls(results: Mapping[str, Encoding]) -> Part:
    text = [
        f"Nuisance: {', '.join(next(iter(results.values())).params['nuisance'])}; fitted "
        "jointly with every model and not penalised. OASM: a model without content that knows "
        "only which volumes are neighbours; with honest folds it must add nothing. Untrained twin: "
        "the same network with random weights, shown the same words in the same contexts. "
        "Isolated word: the trained network shown each word alone.",
    ]
    tables = {}
    for target, result in results.items():
        r = result.to_ladder().loc["OASM"]
        text.append(
            f"Predicting {_TARGETS[target]}, OASM adds {show(r['above nuisance'])} to the "
            f"nuisance ({format_p(r['p'], symbol='p')})."
        )
        s = result.stats
        tables[f"Choices of the nested folds, predicting {_TARGETS[target]}"] = pd.DataFrame(
            {
                "features": s["n_features"],
                "lowest penalty": s["alpha_lowest"],
                "highest penalty": s["alpha_highest"],
                "layer chosen most": [_find_favourite(result, m) for m in result.models],
            },
            index=pd.Index(result.models, name="model"),
        )
    text.append(
        "'Lowest' and 'highest penalty': share of fits at the edge of the grid. At the highest one "
        "the features are all but left out, which is right where they carry nothing."
    )
    return Part(tuple(text), (), tables)


def _find_favourite(result: Encoding, model: str) -> str:
    share = result.stats["layer_share"].sel(model=model).to_series().dropna()
    if share.empty:
        return ""
    return f"{share.idxmax()} ({share.max():.0%})"


def _say_holds_for(protocol: Protocol, results: Mapping[str, Encoding]) -> tuple[str, ...]:
    text = [
        "For this story, in these regions. One chapter read by one voice is one sample of a "
        "stimulus: whatever is said here of words and contexts is said of this story, and another "
        "one may give another answer."
    ]
    for target, result in results.items():
        text.append(f"Predicting {_TARGETS[target]}: {result.holds_for}")
    row = next(iter(results.values())).to_contrasts()
    if f"{CONTEXT} - {ALONE}" in row.index:
        r = row.loc[f"{CONTEXT} - {ALONE}"]
        if r["lower"] <= 0:
            text.append(
                "No gain of context over the same words in isolation is shown here (at most "
                f"{show(r['upper'])} by the interval): as far as this goes, what the network "
                "predicts of these responses is lexical. For sentence encoders such as MiniLM a "
                "difference near zero is what to expect."
            )
    text.append(
        "To predict is not to be the same: a score says that the features carry information about "
        "the responses, not that the brain computes them."
    )
    return tuple(text)
