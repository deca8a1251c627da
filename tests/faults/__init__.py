"""Faults on purpose: what a run, its folder and its disk can meet.

  python -m tests.faults                      # all campaigns, some minutes
  python -m tests.faults --short --seed 3     # a few cases of each
  python -m tests.faults --only kills,full

Each case disturbs a real run of a toy (tests/training/test_loop.py: two stages
of ten steps in all, saved at 3, 5, 8 and 10), then gives the same command
again. Its weights, moments, averages and log must be bit-equal to those of a
run that nothing disturbed, or it must have refused with the code that is
stated. Trainers are forked from one process that has imported everything: a
case takes seconds.

What is real and what is not: kills, locks, two processes, damaged files and
full disks (a tmpfs with what is left filled up) are real. A clock set back is
Python's clock and the times of files, not the machine's. A network folder is a
local one with leases (EMMA_LOCK=lease).
"""
