from hypothesis import given, settings
from hypothesis import strategies as st
import pytest

from emma_jax.benchmarks.scoring import longtext

QUICK = settings(max_examples=80, deadline=None)
LANGUAGE = st.sampled_from(["en", "zh"])
TEXT = st.text("ab Bé每日 ,.!1\n\t", max_size=20)


@pytest.mark.parametrize(
  "text, english, chinese",
  [
    ("FRESH BREWS, every-morning!", "fresh brews everymorning", None),
    ("  Été\n à\tParis  ", "été à paris", "ÉtéàParis"),
    (
      "本地烘焙，始于1998 Cafe",
      "本地烘焙始于1998 cafe",
      "本地烘焙始于1998Cafe",
    ),
    ("ñ ø", "", ""),
  ],
)
def test_normalising(text, english, chinese):
  assert longtext.normalise(text, "en") == english
  if chinese is not None:
    assert longtext.normalise(text, "zh") == chinese


@QUICK
@given(TEXT, LANGUAGE)
def test_normalising_again_changes_nothing(text, language):
  once = longtext.normalise(text, language)
  assert longtext.normalise(once, language) == once


@pytest.mark.smoke
def test_words_are_a_multiset_and_extra_text_is_free():
  wanted = ["to be", "or not to be"]
  assert longtext.matched(wanted, "BE be, to TO: or not", "en") == (6, 6)
  assert longtext.matched(wanted, "to be", "en") == (2, 6)
  assert longtext.matched(wanted, "to to to to", "en") == (2, 6)
  assert longtext.matched(wanted, "to be or not to be, that is", "en") == (6, 6)


def test_chinese_is_compared_by_characters_and_latin_keeps_its_case():
  assert longtext.matched(["每日 新鲜"], "鲜新日", "zh") == (3, 4)
  assert longtext.matched(["Cafe"], "cafe", "zh") == (3, 4)


def test_pictures_are_pooled_not_averaged():
  results = [
    {"ocr_gt": ["a"], "ocr_results": "a"},
    {"ocr_gt": ["a b c"], "ocr_results": ""},
  ]
  assert longtext.text_score(results, "en") == 0.25


def test_nothing_asked_for_is_an_error():
  with pytest.raises(ZeroDivisionError, match="asks for no word"):
    longtext.text_score([{"ocr_gt": ["..."], "ocr_results": "a"}], "en")
  with pytest.raises(ZeroDivisionError):
    longtext.text_score([], "en")


def test_the_official_clean_up_has_the_last_keywords_effect_alone():
  reply = "addCriterion\nNo text recognized."
  assert longtext.clean(reply, official_quirks=True) == "addCriterion\n"
  assert longtext.clean(reply, official_quirks=False) == "\n"


@QUICK
@given(st.lists(TEXT, max_size=4), TEXT, TEXT, LANGUAGE)
def test_recall_is_bounded_and_grows_with_what_is_read(
  wanted, reply, more, language
):
  read, asked = longtext.matched(wanted, reply, language)
  assert 0 <= read <= asked
  further, _ = longtext.matched(wanted, f"{reply} {more}", language)
  assert further >= read
  everything = longtext.matched(wanted, " ".join(wanted), language)
  assert everything == (asked, asked)


@QUICK
@given(st.lists(st.sampled_from(["a", "b", "ça", "日"])), st.data())
def test_the_order_of_words_does_not_matter(words, data):
  shuffled = data.draw(st.permutations(words))
  asked = len(words)
  got = longtext.matched([" ".join(words)], " ".join(shuffled), "en")
  assert got == (asked, asked)
