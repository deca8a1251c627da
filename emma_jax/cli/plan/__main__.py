"""python -m emma_jax.cli.plan"""

from emma_jax.cli.plan import entry

if __name__ == "__main__":
  entry()
