"""Runs a command as several processes of this machine, and restarts them all.

  python -m emma_jax.supervise --processes 2 -- \\
      python -m emma_jax.cli.train --config configs/tiny.py --workdir runs/two

When one process dies, the others cannot go on without it: all are killed, with
everything they started, and all begin again from the last checkpoint. Each is
in a session of its own, so that killing it leaves no data worker and no shared
memory behind. SIGTERM and Ctrl-C are passed on; a second one kills.

Exit codes: 0 all are done; 2 and others that restarting would not mend (see
`emma_jax.exits`) at once; 75 asked to stop, the same command continues; 70
given up after --max_restarts in a row; 137 a stop that was not obeyed in time,
or the second Ctrl-C.

On several machines start one on each, with the same --coordinator and
--num_processes; a dead machine ends the others' processes after the trainer's
--peer_seconds, and the supervisors start them anew together.
"""

import argparse
from collections.abc import Sequence
import os
import signal
import socket
import subprocess
import sys
import time

from emma_jax import processes, ranges, terminal
from emma_jax.exits import FINAL, Exit

_POLL = 0.1  # seconds between two looks at the processes


def main(argv: list[str] | None = None) -> int:
  """Runs the command; returns its exit code."""
  argv = list(sys.argv[1:] if argv is None else argv)
  split = argv.index("--") if "--" in argv else len(argv)
  args = _parser().parse_args(argv[:split])
  command = argv[split + 1 :]
  if not command:
    _say("error: no command; it comes after --, see --help.")
    return Exit.MISTAKE
  if args.num_processes is None:
    args.num_processes = args.first_process + args.processes
  last = args.first_process + args.processes
  if args.processes < 1 or not 0 <= args.first_process < last <= (
    args.num_processes
  ):
    _say(
      f"error: processes {args.first_process}..{last - 1} are not among "
      f"the {args.num_processes} of the run."
    )
    return Exit.MISTAKE
  if args.num_processes > args.processes and not args.coordinator:
    _say("error: processes of several machines need --coordinator HOST:PORT.")
    return Exit.MISTAKE
  return _Supervisor(args, command).run()


def _parser() -> argparse.ArgumentParser:
  parser = argparse.ArgumentParser(
    prog="emma_jax.supervise",
    description=__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  add = parser.add_argument
  add("--processes", type=int, default=1, help="on this machine [1]")
  add("--num_processes", type=int, help="of the run, over all machines")
  add("--first_process", type=int, default=0, help="number of the first here")
  add(
    "--coordinator",
    metavar="HOST:PORT",
    help="where process 0 listens [a free port of this machine]",
  )
  add("--max_restarts", type=int, default=10, help="in a row [10]")
  add(
    "--backoff",
    type=ranges.SECONDS.number,
    default=5.0,
    metavar="S",
    help="before the first restart; twice as long before each next one, at "
    "most 300 [5]",
  )
  add(
    "--settled",
    type=ranges.SECONDS.number,
    default=600.0,
    metavar="S",
    help="processes that lived so long end the row of restarts [600]",
  )
  add(
    "--grace",
    type=ranges.SECONDS.number,
    default=300.0,
    metavar="S",
    help="for saving, between SIGTERM and SIGKILL [300]",
  )
  return parser


class _Supervisor:
  """Starts, watches, and restarts; `run` returns the exit code."""

  def __init__(self, args: argparse.Namespace, command: list[str]):
    self.args, self.command = args, command
    self.children: list[subprocess.Popen] = []
    self.names: list[str] = []  # of their shared memory
    self.asked = 0  # signals so far

  def run(self) -> int:
    for number in processes.stop_signals():
      signal.signal(number, self._ask)
    row = 0
    while True:
      started = time.monotonic()
      code = self._attempt()
      if code is not None:
        return code
      if time.monotonic() - started > self.args.settled:
        row = 0
      if row == self.args.max_restarts:
        _say(f"giving up after {row} restarts in a row.")
        return Exit.GAVE_UP
      pause = min(self.args.backoff * 2**row, 300.0)
      row += 1
      _say(f"restart {row} of at most {self.args.max_restarts} in {pause:g} s.")
      end = time.monotonic() + pause
      while time.monotonic() < end:
        if self.asked:
          return Exit.STOPPED  # the last checkpoint is all there is to keep
        time.sleep(_POLL)

  def _ask(self, number: int, frame) -> None:
    del frame
    # A terminal that is closed says so several times, and nobody insists.
    hung_up = number not in (signal.SIGINT, signal.SIGTERM)
    self.asked = max(self.asked, 1) if hung_up else self.asked + 1

  def _attempt(self) -> int | None:
    """All processes once; None: to be restarted."""
    coordinator = self.args.coordinator or f"127.0.0.1:{_free_port()}"
    self.names = [processes.token() for _ in range(self.args.processes)]
    self.children = [
      self._start(self.args.first_process + i, coordinator)
      for i in range(self.args.processes)
    ]
    told, deadline = 0, float("inf")
    try:
      while True:
        codes = [child.poll() for child in self.children]
        failed = [c for c in codes if c not in (None, 0, Exit.STOPPED)]
        if failed and not self.asked:
          return self._failed(codes)
        if None not in codes:
          return self._ended(codes)
        if self.asked > told:
          told, deadline = self.asked, time.monotonic() + self.args.grace
          if told > 1:
            return Exit.KILLED
          _say("stopping; a second signal kills.")
          for child in self.children:
            if child.poll() is None:
              child.terminate()
        if time.monotonic() > deadline:
          _say(f"not stopped after {self.args.grace:g} s; killing.")
          return Exit.KILLED
        time.sleep(_POLL)
    finally:
      for child, name in zip(self.children, self.names):
        processes.end_group(child.pid)
        child.wait()
        processes.sweep(name)

  def _start(self, process_id: int, coordinator: str) -> subprocess.Popen:
    env = processes.named(
      dict(os.environ), self.names[process_id - self.args.first_process]
    )
    if self.args.num_processes > 1:
      env |= {
        "EMMA_COORDINATOR": coordinator,
        "EMMA_NUM_PROCESSES": str(self.args.num_processes),
        "EMMA_PROCESS_ID": str(process_id),
      }
    else:
      env["EMMA_STOPPED_CODE"] = str(int(Exit.STOPPED))
    return subprocess.Popen(
      self.command,
      env=env,
      start_new_session=True,
      preexec_fn=processes.stop_with_parent,
    )

  def _failed(self, codes: Sequence[int | None]) -> int | None:
    for i, code in enumerate(codes):
      if code not in (None, 0, Exit.STOPPED):
        _say(
          f"process {self.args.first_process + i} ended with {code}"
          f"{processes.signal_of(code)}; ending the others."
        )
    final = [code for code in codes if code in FINAL]
    return final[0] if final else None

  def _ended(self, codes: Sequence[int | None]) -> int | None:
    if not any(codes):
      return 0
    # Asked to stop by somebody else than us counts, too.
    return (
      Exit.STOPPED if self.asked or set(codes) <= {0, Exit.STOPPED} else None
    )


def _free_port() -> int:
  with socket.socket() as probe:
    probe.bind(("127.0.0.1", 0))
    return probe.getsockname()[1]


def _say(text: str) -> None:
  text = terminal.plain(f"supervisor: {text}")
  print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
  sys.exit(main())
