"""The rehearsal's test sets: a few items each, written and drawn for it.

Nothing of them is from the published sets, whose files they have the shapes of;
scores of them mean nothing. `python -m emma_jax.benchmarks.smoke` makes files/.
"""
