"""The first signal asks, the second SIGINT insists."""

import os
import signal
import threading

import pytest

from emma_jax.training.signals import StopRequest


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_first_signal_is_a_flag_and_handlers_come_back(number):
  before = signal.getsignal(number)
  with StopRequest() as stop:
    assert not stop.requested
    os.kill(os.getpid(), number)
    assert stop.requested
    assert stop.reason == signal.Signals(number).name
  assert signal.getsignal(number) is before


def test_second_interrupt_raises():
  before = signal.getsignal(signal.SIGINT)
  with pytest.raises(KeyboardInterrupt):
    with StopRequest():
      os.kill(os.getpid(), signal.SIGTERM)
      os.kill(os.getpid(), signal.SIGINT)
  assert signal.getsignal(signal.SIGINT) is before


def test_works_outside_the_main_thread():
  seen = []

  def work():
    with StopRequest() as stop:
      stop.set()
      seen.append(stop.requested)

  thread = threading.Thread(target=work)
  thread.start()
  thread.join()
  assert seen == [True]
