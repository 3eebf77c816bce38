"""Verdicts on the paper's claims follow from numbers: each rule, with numbers made up for it."""

import json

import pytest

from lth_flax.analysis.claims import CLAIMS, judge, main
from lth_flax.analysis.evidence import Evidence

SEEDS = range(4)


def entry(arm, level, mean):
    """A cell whose seeds lie 0.1 points apart around the mean."""
    offsets = {seed: 0.1 * (seed - 1.5) for seed in SEEDS}
    values = [[seed, mean + offset] for seed, offset in offsets.items()]
    return {"arm": arm, "target_sparsity": level, "by_seed": values}


def crossing(*sparsities, censored=False):
    return [
        {"seed": seed, "draw": 0, "sparsity": value, "censored": censored}
        for seed, value in enumerate(sparsities)
    ]


def summary(cells, *, breakdown=None, crater=None, one_class=(), **settings):
    """`cells` maps (arm, level) to a mean accuracy in percent."""
    rate = {"num_layers": 2, "learning_rate": 0.001, "max_length": 0, "keep": "end", "epochs": 2}
    return {
        "experiment": "winning_ticket",
        "dataset": "some texts",
        "schedule": "iterative",
        "seeds": list(SEEDS),
        "arms": sorted({arm for arm, _ in cells}),
        "levels": sorted({level for arm, level in cells if arm != "dense"}),
        "settings": {**rate, **settings},
        "primary_checkpoint": "last",
        "headline": {"sentence": "Ticket better: so many points."},
        "checkpoints": {
            "last": {
                "table": [entry(arm, level, mean) for (arm, level), mean in cells.items()],
                "breakdown": {"arms": breakdown or {}},
                "crater": {"arms": crater or {}},
                "collapsed": {"one_class": [{"accuracy": value} for value in one_class]},
            }
        },
    }


@pytest.fixture
def record(tmp_path):
    def write(run, *summaries):
        (tmp_path / run).mkdir()
        for number, one in enumerate(summaries, start=1):
            suffix = f"_{number}" if number > 1 else ""
            (tmp_path / run / f"summary{suffix}.json").write_text(json.dumps(one))

    write.directory = tmp_path
    return write


def finding(record, number):
    return {claim.number: found for claim, found in judge(Evidence(record.directory))}[number]


def craters(*sparsities, **settings):
    cells = {("dense", 0.0): 78.0, ("pruned", 0.9): 70.0}
    return summary(cells, crater={"pruned": crossing(*sparsities)}, **settings)


def test_c1_holds_or_is_an_artefact_of_the_head(record):
    record("tweets_prune_after", craters(0.94, 0.96, 0.95, 0.95), craters(0.92, 0.92, 0.93, 0.93))
    assert finding(record, "C1").verdict == "holds"


@pytest.mark.parametrize(
    ("head", "verdict"),
    [((0.95, 0.96, 0.95, 0.95), "artefact of pruning the head alone"),
     ((0.5, 0.6, 0.5, 0.6), "does not hold")],
)  # fmt: skip
def test_c1_where_the_whole_network_craters_early(record, head, verdict):
    record("tweets_prune_after", craters(0.94, 0.96, 0.95, 0.95), craters(0.7, 0.7, 0.72, 0.72))
    assert finding(record, "C1").verdict == "does not hold"  # not known what the head does
    record("paper_figure1", craters(*head))
    found = finding(record, "C1")
    assert found.verdict == verdict
    assert "the lowest 71%" in found.effect


@pytest.mark.parametrize(
    ("one_class", "verdict"),
    [([36.4] * 4, "artefact of predicting one class"), ([36.4], "does not hold")],
)
def test_c2_counts_networks_of_one_class(record, one_class, verdict):
    low = summary({("dense", 0.0): 78.0, ("pruned", 0.98): 36.4}, one_class=one_class)
    record("tweets_prune_after", summary({("dense", 0.0): 78.0, ("pruned", 0.98): 63.6}))
    record("paper_figure1", low)
    assert finding(record, "C2").verdict == verdict


def test_c2_cannot_tell_where_none_is_low(record):
    for run in ("tweets_prune_after", "paper_figure1"):
        record(run, summary({("dense", 0.0): 78.0, ("pruned", 0.98): 63.6}))
    assert finding(record, "C2").verdict == "cannot tell"


@pytest.mark.parametrize(
    ("six", "breaks", "verdict"),
    [(79.0, 0.8, "holds"), (77.0, 0.8, "does not hold"), (79.0, 0.6, "does not hold")],
)
def test_c3_six_layers_against_two(record, six, breaks, verdict):
    def one(layers, accuracy, sparsity):
        values = [sparsity + 0.01 * seed for seed in SEEDS]
        cells = {("dense", 0.0): accuracy, ("pruned", 0.5): accuracy}
        return summary(cells, breakdown={"pruned": crossing(*values)}, num_layers=layers)

    record("tweets_prune_after", one(2, 78.0, 0.8), one(4, 78.2, 0.8), one(6, six, breaks))
    assert finding(record, "C3").verdict == verdict


@pytest.mark.parametrize(
    ("breaks", "low", "verdict"),
    [(0.7, 52.0, "holds"), (0.5, 52.0, "does not hold"), (0.7, 40.0, "does not hold")],
)
def test_c4_breakdown_and_floor(record, breaks, low, verdict):
    cells = {("dense", 0.0): 85.0, ("pruned", 0.95): low}
    arms = {"pruned": crossing(*[breaks] * 4)}
    record("imdb_prune_after", summary(cells, breakdown=arms))
    assert finding(record, "C4").verdict == verdict


@pytest.mark.parametrize(("ticket", "verdict"), [(85.0, "does not hold"), (88.0, "cannot tell")])
def test_c5_holding_is_not_winning(record, ticket, verdict):
    record("imdb_prune_after", summary({("dense", 0.0): 85.0, ("pruned", 0.5): 84.9}))
    cells = {("dense", 0.0): 85.0, ("ticket", 0.5): ticket, ("reinit", 0.5): 85.0}
    record("imdb_winning_ticket_short", summary(cells))
    assert finding(record, "C5").verdict == verdict


@pytest.mark.parametrize(
    ("ticket", "reinit", "verdict"),
    [(0.9, 0.5, "holds"), (0.9, 0.85, "does not hold"), (0.7, 0.5, "does not hold")],
)
def test_c6_both_halves_are_needed(record, ticket, reinit, verdict):
    arms = {"ticket": crossing(*[ticket] * 4), "reinit": crossing(*[reinit] * 4)}
    for run in ("imdb_winning_ticket_short", "tweets_winning_ticket"):
        record(run, summary({("dense", 0.0): 85.0}, breakdown=arms))
    found = finding(record, "C6")
    assert found.verdict == verdict
    assert "Ticket better: so many points" in found.effect


@pytest.mark.parametrize(
    ("here", "there", "verdict"),
    [
        (0.85, 0.5, "artefact of the paper's protocol"),
        (0.85, 0.7, "does not hold"),
        (0.5, 0.5, "holds"),
    ],
)
def test_c6_may_be_so_in_the_papers_protocol_alone(record, here, there, verdict):
    def run(reinit):
        arms = {"ticket": crossing(*[0.9] * 4), "reinit": crossing(*[reinit] * 4)}
        return summary({("dense", 0.0): 60.0}, breakdown=arms)

    for name in ("imdb_winning_ticket_short", "tweets_winning_ticket"):
        record(name, run(here))
    record("paper_figure3", run(there))
    assert finding(record, "C6").verdict == verdict


@pytest.mark.parametrize(
    ("oneshot", "verdict"), [(77.0, "holds"), (78.1, "does not hold"), (79.0, "does not hold")]
)
def test_c7_over_the_levels_that_both_have(record, oneshot, verdict):
    record("tweets_winning_ticket", summary({("ticket", 0.5): 78.0, ("ticket", 0.3): 1.0}))
    record("tweets_oneshot", summary({("ticket", 0.5): oneshot, ("ticket", 0.98): 1.0}))
    assert finding(record, "C7").verdict == verdict


def retrained(gains, dense_gain, rate=0.001):
    cells = {("dense", 0.0): 80.0, ("dense_retrained", 0.0): 80.0 + dense_gain}
    for level, gain in gains.items():
        cells["pruned", level] = 70.0
        cells["retrained", level] = 70.0 + gain
    return summary(cells, learning_rate=rate)


@pytest.mark.parametrize(
    ("gains", "dense", "verdict"),
    [((2, -1, 8), 0.0, "holds"),
     ((2, 1, 8), 2.0, "artefact of unfinished training"),
     ((2, 1, 8), 0.0, "does not hold")],
)  # fmt: skip
def test_c8_gains_below_between_and_above(record, gains, dense, verdict):
    found = dict(zip((0.3, 0.5, 0.8), gains, strict=True))
    record("imdb_post_prune", retrained(found, dense))
    assert finding(record, "C8").verdict == verdict


@pytest.mark.parametrize(
    ("gain", "dense", "verdict"),
    [(7, 0, "holds"), (7, 6.5, "artefact of unfinished training"), (2, 0, "does not hold")],
)
def test_c9_is_about_the_lowest_rate(record, gain, dense, verdict):
    fast = retrained({0.3: 0.0, 0.5: 0.0, 0.8: 1.0}, 0.0, rate=0.01)
    slow = retrained({0.3: gain, 0.5: gain, 0.8: 1.0}, dense, rate=0.0001)
    record("imdb_post_prune", fast, slow)
    found = finding(record, "C9")
    assert found.verdict == verdict
    assert "learning rate 0.0001" in found.effect


@pytest.mark.parametrize(
    ("short", "verdict"),
    [(60.0, "artefact of cutting reviews to 32 tokens"), (86.0, "cannot tell")],
)
def test_c10_compares_lengths(record, short, verdict):
    record("imdb_first_32", summary({("dense", 0.0): short}, max_length=32))
    record("imdb_reference", summary({("dense", 0.0): 88.0}, max_length=400))
    assert finding(record, "C10").verdict == verdict
    # Other things differ there too: told, but not what the verdict follows from.
    record("paper_figure3", summary({("dense", 0.0): 88.0 + short - 60}, max_length=32))
    assert finding(record, "C10").verdict == verdict
    assert "the paper's own protocol" in finding(record, "C10").effect


def test_without_records_nothing_is_claimed(record):
    judged = judge(Evidence(record.directory))
    assert [claim.number for claim, _ in judged] == [f"C{n}" for n in range(1, 11)]
    assert {found.verdict for _, found in judged} == {"cannot tell"}


def test_the_page_names_every_claim_its_rule_and_its_records(record, capsys):
    record("imdb_prune_after", summary({("dense", 0.0): 85.0, ("pruned", 0.5): 84.9}))
    assert main([str(record.directory)]) == 0
    page = (record.directory / "README.md").read_text()
    for claim in CLAIMS:
        assert f"## {claim.number}: " in page
        assert " ".join(claim.rule.__doc__.split()) in page
    assert "[records](imdb_prune_after/records.csv)" in page
    assert "`imdb_post_prune`: not recorded yet." in page
    assert "| [`imdb_prune_after`](imdb_prune_after) |" in page
    assert capsys.readouterr().out.count("cannot tell") >= 8


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"primary_checkpoint": 1, "checkpoints": {}}'])
def test_a_damaged_summary_is_one_line(record, capsys, text):
    (record.directory / "imdb_prune_after").mkdir()
    (record.directory / "imdb_prune_after" / "summary.json").write_text(text)
    assert main([str(record.directory)]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert main([str(record.directory / "nowhere")]) == 2
