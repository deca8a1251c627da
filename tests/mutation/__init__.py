"""A mutation run: small bugs planted one at a time, to see which tests notice.

  python -m tests.mutation                       # all, two at a time
  python -m tests.mutation --room models flow --jobs 1 --out models.jsonl
  python -m tests.mutation --only images-exif-6-8 --log .cache/mutation
  python -m tests.mutation --tests v0.8.0        # an older suite, today's code

Not part of CI. `plants/ROOM.toml` holds a room's bugs: what each is, and the
text that it replaces, which must occur exactly once in its file. Each is made
in a private copy of the tree, never in the checkout. The tests of the changed
file (by name), the goldens of its room and what the room's file lists are run
on it until one fails:

  killed     a test failed
  survived   all passed
  timeout    they took more processor time than --timeout. Counted as killed
             only where the same tests pass without the bug in half of it
  error      pytest itself failed

Before, every test file that is used is run without any bug. Where one fails,
the result is void: whatever it fails on, it would seem to have noticed.

With `--out FILE` a line of JSON is kept of everything that ended, and a run
that is given the same file goes on behind them. Exit code: 0, or 1 where
bugs survived, 2 where the result is void or a plant does not apply.
"""
