"""Numbers that do not change unless somebody means them to.

A *family* is a module of this folder with a function `cases()` that computes
its arrays by the implementation that is right by definition: the published one
(torch, transformers, diffusers) or, of what is EMMA's own, this package when
the numbers were reviewed. What it gave is in `data/<family>.json`, with the
versions it was made with; the tests compare without that implementation.

  python -m tests.goldens              # all families whose libraries are there
  python -m tests.goldens qwen3 dcae   # these
  git diff tests/goldens/data          # what changed, number by number

Of an array the file holds its shape, dtype, norm, its product with fixed signs
(so that every element counts), and some elements at fixed places.
"""
