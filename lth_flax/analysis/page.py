"""The answer in a browser: one self-contained HTML page. A pure function of the summary.

Style and pictures are inside, there is no script, and nothing is fetched. The
templates escape all text that comes from data or flags. Accuracies are in
percent, gaps in percentage points.
"""

import base64
import contextlib
import functools
from collections.abc import Mapping
from typing import Any

import jinja2

from lth_flax.analysis.page_tables import (
    Rows,
    Summary,
    accuracy,
    class_names,
    classes,
    configuration_name,
    confusions,
    crossings,
    failures,
    gaps,
    measures,
    other_verdicts,
    scored,
)
from lth_flax.analysis.statistics import level_name
from lth_flax.analysis.terminal import (
    CHECKPOINT_NAMES,
    confidence_name,
    overview_rows,
    plus_minus,
    retraining_rows,
    score_name,
    sentences,
    verdict_sentence,
)
from lth_flax.analysis.words import (
    FACTORS,
    SCHEDULES,
    count,
    dataset_name,
    meaning,
    plain,
)


def report_html(
    summary: Summary,
    figures: Mapping[str, bytes],
    settings: Mapping[str, Any],
    provenance: Mapping[str, Any],
    defaults: Mapping[str, Any] | None = None,
) -> str:
    """The report page; `figures` maps names as of `figures_of`, and any others, to PNG bytes.

    Settings that equal those of `defaults` are folded away; without them, all are.
    """
    ones, headline = summary["configurations"], summary["headline"]
    grid = len(ones) > 1
    data = provenance.get("data")
    data = data if isinstance(data, Mapping) else {"data": data} if data else {}
    names = class_names(data)
    changed = {
        name: value
        for name, value in settings.items()
        if defaults is not None and name in defaults and not _same(value, defaults[name])
    }
    first = ones[0]
    return _templates().get_template("report.html").render(
        title=_title(summary),
        question=_question(summary),
        verdict=_verdict(summary),
        story=headline["story"] if headline else "",
        sentence=verdict_sentence(summary) if headline or set(_arms(summary)) != {"dense"} else "",
        figures={name: base64.b64encode(png).decode("ascii") for name, png in figures.items()},
        terms=_terms(summary),
        pruned=any(one["levels"] for one in ones),
        overview=overview_rows(summary) if grid else [],
        factors=" and ".join(FACTORS.get(name, plain(name)) for name in summary["factors"]),
        findings=[s for s in sentences(summary)[1:] if s != (headline or {}).get("story")],
        breakdown_points=_points(summary["options"]["breakdown_points"]),
        table_note=_table_note(summary),
        checkpoint=CHECKPOINT_NAMES[first["primary_checkpoint"]],
        configurations=[
            {"name": configuration_name(summary, one), **accuracy(summary, one)} for one in ones
        ],
        measures=measures(summary),
        range=" to ".join(level_name(end) for end in summary["options"]["primary_sparsity"]),
        gaps=gaps(summary),
        others=other_verdicts(summary),
        retraining=[
            (configuration_name(summary, one), retraining_rows(one))
            for one in ones
            if scored(one)["retraining"]
        ],
        crossings=crossings(summary),
        classes=classes(summary, names),
        confusions=confusions(summary, names),
        failures=failures(ones),
        data=[["", ""], *pairs({plain(str(k)): v for k, v in data.items()})],
        changed=[["setting", "value"], *pairs(changed)],
        settings=[
            ["setting", "value"],
            *pairs({name: value for name, value in settings.items() if name not in changed}),
        ],
        provenance=[["", ""], *pairs({k: v for k, v in provenance.items() if k != "data"})],
        interval=_interval(summary),
    )  # fmt: skip


@functools.cache
def _templates() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.PackageLoader("lth_flax.analysis"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _arms(summary: Summary) -> list[str]:
    return list(dict.fromkeys(arm for one in summary["configurations"] for arm in one["arms"]))


def _title(summary: Summary) -> str:
    arms, data = _arms(summary), dataset_name(summary["dataset"])
    if summary["options"]["treatment"] in arms:
        return f"Lottery tickets on {data}"
    if "retrained" in arms:
        return f"Pruning and training on, {data}"
    if set(arms) - {"dense"}:
        return f"Pruning a trained network, {data}"
    return f"One network on {data}"


def _question(summary: Summary) -> str:
    """What was asked, with the words that the verdict uses."""
    headline, arms = summary["headline"], _arms(summary)
    pruned = (
        "A network was trained and the weights that matter least were removed (pruned); sparsity "
        "is the share of weights removed, and which ones are removed is called a mask."
    )
    if headline and headline["control"]:
        return (
            f"{pruned} {meaning(summary['options']['treatment'])} Is it better than its control, "
            f"{headline['control']}? {meaning(headline['control'])}"
        )
    if summary["factors"]:
        words = " and ".join(FACTORS.get(name, plain(name)) for name in summary["factors"])
        return f"{pruned} What does the choice of {words} change?"
    if set(arms) - {"dense"}:
        return f"{pruned} How much can go before accuracy suffers?"
    return "How accurate is the network when nothing is removed from it?"


def _verdict(summary: Summary) -> str:
    if not summary["headline"]:
        one = summary["configurations"][0]
        if _arms(summary) == ["dense"] and len(summary["configurations"]) == 1:
            return f"{plus_minus(scored(one)['table'][0]['score'])}% test accuracy"
        return "Nothing was compared"
    text = summary["headline"]["verdict"]
    where = summary["headline"]["where"]
    return text[:1].upper() + text[1:] + (f" ({where})" if where else "")


def _terms(summary: Summary) -> list[tuple[str, str]]:
    """The arms and the way of pruning; each with what it means."""
    one = summary["configurations"][0]
    terms = [(plain(arm), meaning(arm)) for arm in _arms(summary)]
    terms.append(("seed", meaning("seed")))
    if one["levels"]:
        terms.insert(0, ("arm", "One of the kinds of network below, trained at every sparsity."))
        where = "over the whole network" if one["scope"] == "global" else "within each matrix"
        goes = f"Those with the lowest {plain(one['criterion'])} go first, compared {where}."
        schedule = one["schedule"]
        terms += [
            (SCHEDULES.get(schedule, plain(schedule)), meaning(schedule)),
            ("which weights go", goes),
            ("gap, points", meaning("gap")),
        ]
    if any(cell["draws"] > 1 for cell in scored(one)["table"]):
        terms.append(("draw", meaning("draw")))
    return [term for term in terms if term[1]]


def _table_note(summary: Summary) -> str:
    one = summary["configurations"][0]
    n = len(one["seeds"])
    spread = f", mean ± half of the {confidence_name(summary)} interval" if n > 1 else ""
    return (
        f"{score_name(summary['metric']).capitalize()} at the "
        f"{CHECKPOINT_NAMES[one['primary_checkpoint']]}{spread}; "
        f"{count(n, 'seed')}. “dense” is the network with nothing pruned."
    )


def _interval(summary: Summary) -> str:
    words = dict.fromkeys(one["variance"]["words"] for one in summary["configurations"])
    return f"Intervals: {'; '.join(words)}."


def pairs(values: Mapping[str, Any], above: str = "") -> Rows:
    """Names and values as rows of text; what is inside of a value has its name in front.

    >>> pairs({"sizes": {"train": 10, "test": 4}, "edges": [3, 9]})
    [['sizes: train', '10'], ['sizes: test', '4'], ['edges', '3, 9']]
    """
    rows: Rows = []
    for name, value in values.items():
        label = f"{above}: {name}" if above else str(name)
        if isinstance(value, Mapping):
            rows += pairs(value, label)
        else:
            rows.append([label, shown(value)])
    return rows


def shown(value: Any) -> str:
    """A value as text: lists with commas, fractions not longer than need be."""
    if isinstance(value, str):
        return value
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple | set | frozenset):
        return ", ".join(map(shown, value))
    if isinstance(value, Mapping):
        return "; ".join(f"{name}: {shown(inner)}" for name, inner in value.items())
    return (
        f"{value:,}"
        if isinstance(value, int)
        else f"{value:.6g}"
        if isinstance(value, float)
        else str(value)
    )


def _same(value: Any, default: Any) -> bool:
    """Whether a setting, perhaps as the text of a flagfile, is at its default."""
    texts = []
    for one in (value, default):
        if isinstance(one, list | tuple):
            one = ",".join(map(str, one))
        text = "" if one is None else str(one).strip().lower()
        with contextlib.suppress(ValueError):
            text = repr(float(text))
        texts.append(text)
    return texts[0] == texts[1]


def _points(number: float) -> str:
    """ "1 point", "0.5 points"."""
    return f"{number:g} point{'s' * (number != 1)}"
