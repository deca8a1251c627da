"""python -m emma_jax.cli.sample"""

from emma_jax.cli.sample import entry

if __name__ == "__main__":
  entry()
