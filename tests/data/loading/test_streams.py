"""Streams bring the batches that they always have, whoever reads them."""

import pytest

from tests.goldens import store, streams


@pytest.fixture(scope="module")
def now() -> dict:
  return streams.cases()


@pytest.mark.parametrize("case", store.read("streams"))
def test_the_stream_is_what_it_was(case, now):
  store.check("streams", case, now[case], store.EXACT, streams.KEPT)


def test_every_case_is_there(now):
  assert now.keys() == store.read("streams").keys()


@pytest.mark.parametrize(
  "case, of, hosts",
  [
    ("planned", streams.planned, 2),
    ("drawn", streams.drawn, 2),
    ("parts", lambda sources: streams.drawn(sources, packing_groups=2), 2),
  ],
)
def test_two_hosts_bring_it_too(case, of, hosts, tmp_path):
  got = streams.batches(of(streams.folders(tmp_path)), hosts)
  store.check("streams", case, got, store.EXACT, streams.KEPT)
