"""Exit codes of the commands: what schedulers, supervisors and scripts read.

Numbers from 64 to 78 mean what sysexits.h says. A command ends with

| code | name        | meaning                                                 |
|------|-------------|---------------------------------------------------------|
| 0    | DONE        | all is done                                             |
| 1    | FAULT       | a check found something, or a bug (with its stack)      |
| 2    | MISTAKE     | the command, the config or what it names has a mistake  |
| 65   | DATA        | stored data is damaged, or too many records are broken  |
| 66   | MISSING     | a folder lacks what was in it: a disk that is not there |
| 69   | UNREACHABLE | the other processes, or a server, were not found        |
| 70   | GAVE_UP     | a supervisor restarted it too often                     |
| 71   | MEMORY      | the device or the machine has too little memory         |
| 73   | IN_USE      | another process is at work in this folder               |
| 74   | STORAGE     | a disk is full, read-only or failing                    |
| 75   | STOPPED     | asked to stop, all being saved; the same command goes on|
| 76   | NOT_FINITE  | numbers that are not finite: weights, losses, results   |
| 130  | INTERRUPTED | Ctrl-C                                                  |
| 137  | KILLED      | a stop that was not obeyed in time, or a second Ctrl-C  |

A supervisor begins again after all but DONE, STOPPED and `FINAL`.
"""

import enum


class Exit(enum.IntEnum):
  """What a process ends with; see the table above."""

  DONE = 0
  FAULT = 1
  MISTAKE = 2
  DATA = 65
  MISSING = 66
  UNREACHABLE = 69
  GAVE_UP = 70
  MEMORY = 71
  IN_USE = 73
  STORAGE = 74
  STOPPED = 75
  NOT_FINITE = 76
  INTERRUPTED = 130
  KILLED = 137


# The same command would end in the same way.
FINAL = frozenset(
  {
    Exit.MISTAKE,
    Exit.DATA,
    Exit.MISSING,
    Exit.MEMORY,
    Exit.IN_USE,
    Exit.NOT_FINITE,
  }
)


class NotFinite(ArithmeticError):
  """Weights, losses, gradients or results are NaN or infinite; the message
  says which, and what caused it."""

  exit_code = Exit.NOT_FINITE
