"""python -m emma_jax.cli.convert"""

from emma_jax.cli.convert import entry

if __name__ == "__main__":
  entry()
