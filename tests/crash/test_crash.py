"""The short form of `make crash`."""

from crash.storm import storm


def test_twenty_kills_under_load_lose_nothing_repeat_nothing_and_hide_nothing():
    report = storm(kills=20, clients=8, seed=20)
    assert report.broken == [], report.text()
    assert report.kills == 20
    assert report.effects > 0
