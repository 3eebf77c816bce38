"""The benchmark of tickets compares networks that answer alike, level by level."""

import pytest
from made_tickets import make_ticket

from lth_flax.errors import UserError
from lth_flax.tickets import save_ticket


@pytest.mark.slow
def test_every_contestant_is_timed_and_the_compact_one_is_smaller(tmp_path):
    pytest.importorskip("torch", reason="PyTorch is in the extra export")
    from lth_flax.benchmarks.inference import as_table, measure, tickets_of

    with pytest.raises(UserError, match="holds no tickets"):
        tickets_of(tmp_path)
    ticket = make_ticket(layers=1, structured=True)
    for seed in range(2):
        save_ticket(tmp_path / "tickets" / f"seed_{seed}" / "level_0.33", ticket)
    assert {level: len(paths) for level, paths in tickets_of(tmp_path).items()} == {"0.33": 2}
    found = measure(ticket, texts=4, rounds=1)
    assert found["units"] == [[2, 2]]
    assert found["parameters"][1] < found["parameters"][0]
    assert set(found["milliseconds"]) == {
        "classify, dense", "classify, compact", "classify, torch dense", "classify, torch compact",
        "train, dense", "train, compact",
    }  # fmt: skip
    assert all(one["median"] > 0 for one in found["milliseconds"].values())
    assert "0.33" in as_table({"0.33": [found, found]})
