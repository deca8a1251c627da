"""What a pool's processes hold together stays within one budget."""

import multiprocessing
import threading

import pytest

from emma_jax.data.pictures import budget


@pytest.fixture
def small(monkeypatch):
  """Four pieces of ten bytes."""
  monkeypatch.setattr(budget, "HEAVY", 10)
  monkeypatch.setattr(budget, "total", lambda: 40)
  return budget.Budget(multiprocessing.get_context("spawn"))


def test_no_more_than_the_budget_is_held(small):
  """Threads stand for processes: each takes what it needs, all get through."""
  lock, held, most = threading.Lock(), [0], [0]

  def work(size: int) -> None:
    for _ in range(20):
      with small.take(size, lambda: None):
        with lock:
          held[0] += size
          most[0] = max(most[0], held[0])
        with lock:
          held[0] -= size

  threads = [
    threading.Thread(target=work, args=(size,)) for size in (10, 20, 30, 40)
  ]
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join(60)
  assert not any(thread.is_alive() for thread in threads)
  assert most[0] <= 40


def test_more_than_all_of_it_is_held_alone(small):
  with small.take(1000, lambda: None):
    assert not small._free.acquire(block=False)
  assert small._free.acquire(block=False)


def test_who_waits_can_be_stopped(small):
  def stop():
    raise KeyboardInterrupt

  with small.take(40, lambda: None):
    with pytest.raises(KeyboardInterrupt):
      with small.take(10, stop):
        raise AssertionError("it was free")
  with small.take(40, lambda: None):  # what was collected is given back
    pass


def test_what_is_held_within_does_not_wait(small, monkeypatch):
  monkeypatch.setattr(budget, "_budget", small)
  with budget.holding(40), budget.holding(40):
    assert budget._holds
  assert not budget._holds
  with budget.holding(10):  # no more than every process may have
    assert not budget._holds
