"""The answer in a browser: one self-contained HTML page. A pure function of the summary.

Style and pictures are inside, there is no script, and nothing is fetched. The
templates (`templates/`) hold what is said, and escape all text that comes from data
or flags. Accuracies are in percent, gaps in percentage points.
"""

import base64
import contextlib
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jinja2

from lth_flax.analysis import terminal, words
from lth_flax.analysis.terminal import Rows, Summary, scored


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
    ones = summary["configurations"]
    data = provenance.get("data")
    data = data if isinstance(data, Mapping) else {"data": data} if data else {}
    changed = {
        name: value
        for name, value in settings.items()
        if defaults is not None and name in defaults and not _same(value, defaults[name])
    }
    kept = {name: value for name, value in settings.items() if name not in changed}
    elsewhere = {name: value for name, value in provenance.items() if name != "data"}
    return templates().get_template("report.html").render(
        summary=summary,
        figures={name: base64.b64encode(png).decode("ascii") for name, png in figures.items()},
        arms=list(dict.fromkeys(arm for one in ones for arm in one["arms"])),
        comparisons=_comparisons(summary),
        classes=_classes(summary, data.get("classes")),
        data=[["", ""], *pairs({words.plain(str(k)): v for k, v in data.items()})],
        changed=[["setting", "value"], *pairs(changed)],
        kept=[["setting", "value"], *pairs(kept)],
        provenance=[["", ""], *pairs(elsewhere)],
    )  # fmt: skip


@functools.cache
def templates() -> jinja2.Environment:
    """The templates of this folder, with what writes numbers and names as everywhere."""
    found = jinja2.Environment(
        loader=jinja2.PackageLoader("lth_flax.analysis"),
        autoescape=jinja2.select_autoescape(),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=["jinja2.ext.do"],
    )
    found.globals |= {
        "words": words,
        "terminal": terminal,
        "scored": scored,
        "level": words.level_name,
    }
    found.filters |= {
        "mean": terminal.plus_minus,
        "p": _number(".2g"),
        "digit": _number(".1f"),
        "points": _points,
    }
    found.filters |= {
        "scored": scored,
        "factor": words.factor_name,
        "general": "{:g}".format,
        "percent": lambda share: f"{100 * share:.1f}",
    }
    return found


def _comparisons(summary: Summary) -> list[tuple[str, str, Mapping[str, Any]]]:
    """Every comparison with its place in words and its checkpoint, the headline's control first.

    Those of the primary checkpoint come before the others, whose checkpoint is named.
    """
    found = [
        (f"{own['name']}{', ' if own['name'] else ''}each arm at its own learning rate", "", one)
        for own in summary["own_rates"]
        for one in own["comparisons"].values()
    ]
    others: list[tuple[str, str, Mapping[str, Any]]] = []
    for one in summary["configurations"]:
        name = words.configuration_name(summary, one)
        for checkpoint, at in one["checkpoints"].items():
            primary = checkpoint == one["primary_checkpoint"]
            epoch = "" if primary else words.CHECKPOINTS[checkpoint]
            place = ", ".join(part for part in (name, epoch) if part)
            (found if primary else others).extend(
                (place, epoch, comparison) for comparison in at["comparisons"].values()
            )
    first = summary["options"]["headline_control"]
    return sorted(found, key=lambda entry: entry[2]["control"] != first) + others


def _classes(summary: Summary, names: Any) -> list[tuple[Any, list[str], list[Any]]]:
    """(configuration, names of its classes, cells), of those whose classes were predicted.

    names: as the account of the data has them: a list, or counts by name.
    """
    known = list(map(str, names)) if isinstance(names, list | Mapping) else []
    found = []
    for one in summary["configurations"]:
        cells = [cell for cell in scored(one)["table"] if cell["classes"]]
        if cells:
            number = len(cells[0]["classes"]["recall"])
            labels = known if len(known) == number else [f"class {n}" for n in range(number)]
            found.append((one, labels, cells))
    return found


def _number(form: str) -> Callable[[float | None], str]:
    return lambda value: "–" if value is None else format(value, form)


def _points(found: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """An estimate of shares in points."""
    if not found:
        return None
    mean, interval = found["mean"], found["interval"]
    return {
        "mean": None if mean is None else 100 * mean,
        "interval": interval and [100 * end for end in interval],
    }


def pairs(values: Mapping[str, Any], above: str = "") -> Rows:
    """Names and values as rows of text; what is inside of a value has its name in front.

    >>> pairs({"sizes": {"train": 10, "test": 4}, "edges": [3, 9]})
    [['sizes: train', '10'], ['sizes: test', '4'], ['edges', '3, 9']]
    """
    rows: Rows = []
    for name, value in values.items():
        label = f"{above}: {name}" if above else str(name)
        rows += pairs(value, label) if isinstance(value, Mapping) else [[label, shown(value)]]
    return rows


def shown(value: Any) -> str:
    """A value as text: lists with commas, fractions not longer than need be."""
    match value:
        case None:
            return "–"
        case bool():
            return "yes" if value else "no"
        case list() | tuple() | set() | frozenset():
            return ", ".join(map(shown, value))
        case Mapping():
            return "; ".join(f"{name}: {shown(inner)}" for name, inner in value.items())
        case int():
            return f"{value:,}"
        case float():
            return f"{value:.6g}"
    return str(value)


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
