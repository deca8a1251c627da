"""python -m emma_jax.cli.data"""

from emma_jax.cli.data import entry

if __name__ == "__main__":
  entry()
