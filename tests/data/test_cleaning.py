"""Cleaning, against literal values."""

import pytest

from lth_flax.data.cleaning import clean_text, clean_tweet


@pytest.mark.parametrize(
    ("raw", "clean"),
    [
        ("user: TJX stop in 44.34", "TJX stop in 44.34"),
        ("via user AMZN, users like it", "via AMZN, users like it"),
        ("RT @CGrantWSJ: $JNJ is up https://t.co/hD7FB2pln6", "$JNJ is up"),
        ("HTTP://x.y/z leading link", "leading link"),
        ("long CNK bit.ly/XStZaG pic.twitter.com/adw", "long CNK"),
        ("says @jackycwong\r\nhttps:/…", "says"),
        ("the first quarter htâ€¦", "the first quarter"),
        ("S&amp;P doesnâ€™t fall", "S&P doesn’t fall"),
        ("Dow &gt;&gt; 24,000 < 25,000 #stocks 🚀", "Dow >> 24,000 < 25,000 #stocks 🚀"),
        ("at oddsâ€”â€¦", "at odds—…"),
        ("a café opens, Ã©clair", "a café opens, éclair"),
        ("RT volume is high", "RT volume is high"),
        ("mail me@home", "mail me@home"),
        ("@a @b http://c", ""),
        ("", ""),
    ],
)
def test_clean_tweet(raw, clean):
    assert clean_tweet(raw) == clean


@pytest.mark.parametrize(
    ("raw", "clean"),
    [
        ("Bad.<br /><br />Really <i>bad</i>!", "Bad. Really bad !"),
        ('see <a href="x>y" class=b>this</a>', "see this"),
        ("1 < 2 but a<b and c>d, I <3 it <sigh>", "1 < 2 but a<b and c>d, I <3 it <sigh>"),
        ("<BR>Tom &amp; Jerry &#8217;n", "Tom & Jerry ’n"),
        ("good\x96not \x93great\x94", "good–not “great”"),
        ("see http://imdb.com now", "see now"),
        ("<!-- x\ny -->text", "text"),
    ],
)
def test_clean_text(raw, clean):
    assert clean_text(raw) == clean
