"""The first signal asks, the second SIGINT insists."""

import os
import signal
import subprocess
import sys
import threading

import pytest

from emma_jax.exits import Exit
from emma_jax.training.signals import Interrupted, StopRequest


@pytest.mark.usefixtures("hangups_heard")
@pytest.mark.parametrize(
  "number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]
)
def test_first_signal_is_a_flag_and_handlers_come_back(number):
  before = signal.getsignal(number)
  with StopRequest() as stop:
    assert not stop.requested
    os.kill(os.getpid(), number)
    assert stop.requested
    assert stop.reason == signal.Signals(number).name
  assert signal.getsignal(number) is before


def test_a_hangup_that_is_ignored_stays_ignored():
  """As nohup has it."""
  before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
  try:
    with StopRequest() as stop:
      os.kill(os.getpid(), signal.SIGHUP)
      assert not stop.requested
    assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
  finally:
    signal.signal(signal.SIGHUP, before)


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


def test_a_signal_is_answered_by_a_thread():
  """While the main one waits for a device, or for its compiler."""
  answered, said = threading.Event(), []

  def answer(name: str, count: int):
    said.append((name, count, threading.current_thread().name))
    answered.set()

  with StopRequest(answer) as stop:
    os.kill(os.getpid(), signal.SIGTERM)
    assert answered.wait(60)
  ((name, count, thread),) = said
  assert (name, count) == ("SIGTERM", 1) and stop.reason == "SIGTERM"
  assert thread != threading.main_thread().name
  assert signal.set_wakeup_fd(-1) == -1  # as it was


def test_where_nothing_is_lost_a_signal_ends_it_at_once():
  with StopRequest() as stop:
    with pytest.raises(Interrupted), stop.at_once():
      os.kill(os.getpid(), signal.SIGTERM)
      pytest.fail("it went on")
    with pytest.raises(Interrupted), stop.at_once():
      pytest.fail("it had come already")
    with stop.at_once(False):
      pass


def test_three_interrupts_end_a_process_that_does_not_come_back():
  program = (
    "import signal, sys\n"
    "from emma_jax.training.signals import StopRequest\n"
    "say = lambda name, count: print(count, flush=True)\n"
    "with StopRequest(say):\n"
    "  signal.pthread_sigmask(signal.SIG_SETMASK, ())\n"
    "  print('ready', flush=True)\n"
    "  try:\n"
    "    signal.pause()\n"
    "    signal.pause()\n"
    "  except KeyboardInterrupt:\n"
    "    signal.signal(signal.SIGINT, lambda *_: None)\n"
    "    while True: signal.pause()\n"
  )
  with subprocess.Popen(
    [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True
  ) as process:
    assert process.stdout is not None
    for line in ("ready", "1", "2"):
      assert process.stdout.readline().strip() == line
      process.send_signal(signal.SIGINT)
    assert process.stdout.readline().strip() == "3"
    assert process.wait(60) == Exit.INTERRUPTED
