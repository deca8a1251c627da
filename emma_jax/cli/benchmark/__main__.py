"""python -m emma_jax.cli.benchmark"""

from emma_jax.cli.benchmark import entry

if __name__ == "__main__":
  entry()
