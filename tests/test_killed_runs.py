"""A run that is killed at any moment goes on, and ends with the same bits."""

import pytest
from kill_resume import kill_and_resume


@pytest.mark.parametrize(
    "kills",
    [
        pytest.param(3, marks=pytest.mark.slow),
        pytest.param(200, marks=pytest.mark.exhaustive),
    ],
)
def test_kills_at_random_moments_change_nothing(tmp_path, kills, seed_of_the_day):
    hits = kill_and_resume(tmp_path, kills=kills, seed=seed_of_the_day)
    assert hits.total() == kills
    assert any(name.startswith("writing") for name in hits)
