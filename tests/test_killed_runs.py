"""A run that is killed at any moment goes on, and ends with the same bits."""

from kill_resume import kill_and_resume


def test_twenty_kills_at_random_moments_change_nothing(tmp_path):
    hits = kill_and_resume(tmp_path, kills=20, seed=20)
    assert hits.total() == 20
    assert sum(count for name, count in hits.items() if name.startswith("writing")) >= 1
