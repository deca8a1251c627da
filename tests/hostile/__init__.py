"""Inputs that mean harm, or met some, through the commands as they are.

  python -m tests.hostile                    # all of them, a few minutes
  python -m tests.hostile --only archives,weights
  python -m tests.hostile --short --seed 3   # a few of each kind

Each case is one command of ours on one input (a record, a picture, an archive,
weights, a config, a request), in a process of its own. It must end with the
code that is stated for it and say the words that are stated, without a stack
trace, in less than `measured.MEMORY` and `measured.SECONDS`. What is printed is
the whole process's peak of resident memory (ru_maxrss), of which `measured`'s
processes take what the first line says before they have read anything: they are
forked from one that has imported everything.
"""
