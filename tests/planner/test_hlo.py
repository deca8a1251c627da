"""Laws of reading XLA's programs: loops multiplied, bytes exact."""

import operator
import os
import pathlib
import re
import subprocess
import sys

import jax
import jax.numpy as jnp
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
import numpy as np
import pytest

from emma_jax.planner import buffers, collectives, costs, hlo, program

LAYERS, TIMES, ROWS, WIDTH = 3, 2, 64, 32

FOLDER = pathlib.Path(__file__).parent
# A program that carries another compiler's as a string, of many lines.
FOREIGN = (FOLDER / "foreign.hlo").read_text()


def stacked(ws, x):
  """A scan in a scan; every weight is used twice."""

  def layer(x, w):
    def again(x, _):
      return jnp.tanh(x @ w["up"]) @ w["down"], None

    return jax.lax.scan(again, x, None, length=TIMES)[0], None

  return jnp.sum(jax.lax.scan(layer, x, ws)[0] ** 2)


def arguments(sharding_of=lambda *names: None):
  array = lambda shape, *names: jax.ShapeDtypeStruct(
    shape, jnp.float32, sharding=sharding_of(*names)
  )
  ws = dict(
    up=array((LAYERS, WIDTH, 2 * WIDTH), None, "fsdp"),
    down=array((LAYERS, 2 * WIDTH, WIDTH), None, "fsdp"),
  )
  return ws, array((ROWS, WIDTH), "fsdp")


def text_of(function, *args) -> str:
  return jax.jit(function).lower(*args).compile().as_text()


def traced(text: str) -> program.Program:
  return program.trace(hlo.parse(text))


def test_flops_of_nested_scans_are_exact():
  product = 2 * ROWS * WIDTH * 2 * WIDTH
  forward = 2 * product * TIMES * LAYERS
  found = traced(text_of(stacked, *arguments()))
  assert program.matmul_flops(found) == forward
  assert not found.unknown_loops
  found = traced(text_of(jax.grad(stacked, (0, 1)), *arguments()))
  assert program.matmul_flops(found) == 3 * forward


@pytest.mark.parametrize(
  "strides, padding, spread, groups",
  [
    ((1, 1), "SAME", (1, 1), 1),
    ((2, 2), "SAME", (1, 1), 1),
    ((1, 1), "VALID", (1, 1), 4),
    ((1, 1), ((1, 2), (0, 3)), (2, 2), 1),
  ],
)
def test_a_convolutions_flops_are_those_of_its_meetings(
  strides, padding, spread, groups
):
  """Counted by convolving ones: every product adds 1."""
  x = jnp.ones((2, 7, 9, 4))
  w = jnp.ones((3, 3, 4 // groups, 8))
  f = lambda x, w: jax.lax.conv_general_dilated(
    x,
    w,
    strides,
    padding,
    lhs_dilation=spread,
    dimension_numbers=("NHWC", "HWIO", "NHWC"),
    feature_group_count=groups,
  )
  found = traced(text_of(f, x, w))
  assert program.matmul_flops(found) == 2 * int(f(x, w).sum())


@pytest.mark.parametrize("within", [operator.lt, operator.le])
@pytest.mark.parametrize("first, last, step", [(0, 8, 2), (1, 8, 3), (0, 3, 1)])
def test_a_loops_length_follows_from_its_counter(first, last, step, within):
  """Where the compiler does not note it, or unrolled a part of it."""

  def f(x, w):
    more = lambda c: (c[0] + step, c[1] @ w)
    return jax.lax.while_loop(lambda c: within(c[0], last), more, (first, x))[1]

  square = jax.ShapeDtypeStruct((WIDTH, WIDTH), jnp.float32)
  text = re.sub(
    '"known_trip_count":{[^}]*}', '"note":{}', text_of(f, square, square)
  )
  turns = len(range(first, last + within(0, 0), step))
  assert program.matmul_flops(traced(text)) == turns * 2 * WIDTH**3


def test_a_loop_of_unknown_length_is_named_and_counted_once():
  def f(x, w, n):
    return jax.lax.fori_loop(0, n, lambda i, x: x @ w, x)

  square = jax.ShapeDtypeStruct((WIDTH, WIDTH), jnp.float32)
  found = traced(text_of(f, square, square, jax.ShapeDtypeStruct((), "int32")))
  assert program.matmul_flops(found) == 2 * WIDTH**3
  assert len(found.unknown_loops) == 1


def test_what_scans_stack_up_is_what_the_backward_pass_needs():
  found = traced(text_of(jax.grad(stacked, (0, 1)), *arguments()))
  inputs_and_hidden = LAYERS * TIMES * ROWS * (WIDTH + 2 * WIDTH) * 4
  kept = buffers.kept(found, backward=False)
  assert inputs_and_hidden <= kept <= 2 * inputs_and_hidden
  assert buffers.kept(found, backward=True) == LAYERS * 4 * WIDTH**2 * 4


def test_strings_of_another_compiler_are_no_structure():
  module = hlo.parse(FOREIGN)
  assert list(module.computations) == ["body", "condition", "main"]
  assert len(module.computations["body"].instructions) == 9
  found = program.trace(module)
  assert program.matmul_flops(found) == 0
  assert costs.kernel_calls(found) == {"call": 5}


def test_cycles_are_multiplied_and_the_sentinel_is_dropped():
  found = traced(FOREIGN)
  seconds = [c.seconds for c in costs.by_cycles(found, clock_hz=1e9)]
  assert seconds == [5 * 150 / 1e9]


def test_a_source_is_the_innermost_line_of_the_package():
  module = hlo.parse(FOREIGN)
  add = module.computations["body"].instructions["y"]
  assert module.source(add) == "/lib/jax/other.py:9"
  assert module.source(add, "emma_jax") == "emma_jax/models/layers.py:7"


def test_tiles_pad_the_fastest_axes():
  array = hlo.parse(FOREIGN).computations["main"].root.arrays[0]
  assert array.bytes == 8 * 4 * 4 and array.padded_bytes == 8 * 128 * 4


def test_no_program_is_an_error():
  with pytest.raises(ValueError, match="No HLO module"):
    hlo.parse("RESOURCE_EXHAUSTED: ...")


def test_arrays_of_row_by_row_are_found():
  f = lambda q, k: jax.nn.softmax(q @ k.swapaxes(1, 2)) @ k
  heads = jax.ShapeDtypeStruct((4, 96, 8), jnp.float32)
  found = traced(text_of(f, heads, heads))
  assert any("[4,96,96]" in b.array for b in buffers.square(found, {96}))
  assert not buffers.square(found, {95})


# ------------------------------------------------------------- communication


# One line each, as the compilers write them.
FORMS = {
  "sync": (
    "  ROOT %o = f32[32]{0} all-gather(%x), channel_id=1, "
    "replica_groups={{0,1,2,3},{4,5,6,7}}, dimensions={0}",
    ("all-gather", 128, 4, False),
  ),
  "iota": (
    "  ROOT %o = f32[8]{0} all-reduce(%x), channel_id=1, "
    "replica_groups=[4,2]<=[8], to_apply=%sum",
    ("all-reduce", 32, 2, False),
  ),
  "mesh": (
    "  ROOT %o = f32[1]{0} reduce-scatter(%x), channel_id=1, "
    "replica_groups=mesh['a'=8,'b'=1] {'a'}, to_apply=%sum",
    ("reduce-scatter", 32, 8, False),
  ),
  "start": (
    "  %o = (f32[8]{0}, f32[32]{0}) all-gather-start(%x), "
    "channel_id=1, replica_groups=[2,4]<=[8], dimensions={0}\n"
    "  ROOT %d = f32[32]{0} all-gather-done(%o)",
    ("all-gather", 128, 4, True),
  ),
  "waiting start": (
    "  %o = (f32[8]{0}, f32[32]{0}) all-gather-start(%x), channel_id=1, "
    'replica_groups=[2,4]<=[8], backend_config={"is_sync":true}\n'
    "  ROOT %d = f32[32]{0} all-gather-done(%o)",
    ("all-gather", 128, 4, False),
  ),
  "sparse core": (
    "  %o = ((f32[8]{0}, token[]), f32[32]{0}) call-start(%x), "
    'async_execution_thread="sparsecore", to_apply=%gather\n'
    "  ROOT %d = f32[32]{0} call-done(%o)",
    ("all-gather", 128, 4, True),
  ),
  "scatter in a fusion": (
    "  ROOT %o = f32[1]{0} fusion(%x), kind=kCustom, calls=%all-reduce-scatter",
    ("reduce-scatter", 32, 8, False),
  ),
  "carried by fusions": (
    "  %s = f32[32]{0} fusion(%x), kind=kCustom, calls=%begin\n"
    "  %m = f32[32]{0} fusion(%x, %s), kind=kOutput, calls=%gather\n"
    "  ROOT %d = f32[32]{0} fusion(%x, %m), kind=kCustom, calls=%end",
    ("all-gather", 128, 4, True),
  ),
}
# What they call, and the begin of the program that they end.
CALLED = (FOLDER / "communication.hlo").read_text()


@pytest.mark.parametrize("name", FORMS)
def test_each_form_of_communication_counts_once(name):
  line, expected = FORMS[name]
  found = collectives.collectives(traced(f"{CALLED}{line}\n}}\n"))
  assert [(c.kind, c.bytes, c.group, c.overlapped) for c in found] == [expected]


def test_a_ring_sends_all_but_its_own_share():
  make = lambda kind: collectives.Collective(kind, 800, 4, 2, False, "")
  assert make("all-gather").sent(8) == 800 * 2 * 3 / 4
  assert make("all-reduce").sent(8) == 2 * make("all-gather").sent(8)


def check_gathers(devices) -> None:
  """Each product gathers its weight whole, forward; nothing else does."""
  mesh = Mesh(np.array(devices), ("fsdp",), axis_types=(AxisType.Auto,))
  place = lambda *names: NamedSharding(mesh, PartitionSpec(*names))
  found = traced(text_of(stacked, *arguments(place)))
  row = collectives.summary(collectives.collectives(found))["all-gather"]
  weight = 2 * WIDTH**2 * 4
  assert row["bytes"] == row["count"] * weight
  assert 2 * LAYERS <= row["count"] <= 2 * LAYERS * TIMES
  assert program.matmul_flops(found) * len(devices) == (
    2 * 2 * ROWS * WIDTH * 2 * WIDTH * TIMES * LAYERS
  )


def test_gathered_weights_of_sharded_scans_have_their_bytes(repo):
  code = (
    "import jax; from tests.planner import test_hlo; "
    "test_hlo.check_gathers(jax.devices())"
  )
  flags = "--xla_force_host_platform_device_count=4"
  subprocess.run(
    [sys.executable, "-c", code],
    cwd=repo,
    check=True,
    timeout=300,
    env=os.environ | {"XLA_FLAGS": flags, "PYTHONPATH": str(repo)},
  )
