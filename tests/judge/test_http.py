import datetime
import email.utils

import pytest

from emma_jax.judge import http

pytestmark = pytest.mark.smoke


def test_retry_after_is_seconds_or_a_date_and_has_an_end():
  after = lambda value: http.retry_after({"Retry-After": value})
  now = datetime.datetime.now(datetime.UTC)
  later = now + datetime.timedelta(seconds=90)
  assert 85 < after(email.utils.format_datetime(later, usegmt=True)) <= 90
  assert after("0.5") == 0.5
  assert after("-3") == 0.0
  assert after("1e9") == 600.0
  for nothing in ("nan", "inf", "soon", ""):
    assert after(nothing) is None
