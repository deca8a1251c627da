"""python -m emma_jax.cli.speed"""

from emma_jax.cli.speed import entry

if __name__ == "__main__":
  entry()
