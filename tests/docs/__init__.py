"""What the pages say, read: their blocks of code, commands and config keys.

  python -m tests.docs               # runs the commands that pages mark
  python -m tests.docs own_pictures  # those of one page

A block behind the line `<!-- run -->` is run, and has to end with 0. The
blocks of a page share a folder, in which `configs` and `launch` are those of
the repository; each page begins with an empty one.
"""
