"""Laws of the time that kernels are given."""

import types

import pytest

from emma_jax.planner import chips, collectives, costs, counts, hlo, program
from emma_jax.planner import plan as plan_lib

pytestmark = pytest.mark.smoke

# Two kernels in a loop of three rounds. The second keeps an operand in the
# chip's vector memory; the sizes of f32[8,4] are padded to f32[8,128].
TEXT = """HloModule kernels, is_scheduled=true

%body (p: (s32[], f32[8,4])) -> (s32[], f32[8,4]) {
  %p = (s32[], f32[8,4]{1,0:T(8,128)}) parameter(0)
  %i = s32[] get-tuple-element(%p), index=0
  %x = f32[8,4]{1,0:T(8,128)} get-tuple-element(%p), index=1
  %one = s32[] constant(1)
  %next = s32[] add(%i, %one)
  %rope.2 = (f32[8,4]{1,0:T(8,128)}, f32[8,4]{1,0:T(8,128)}) custom-call(%x), \
custom_call_target="tpu_custom_call", \
metadata={op_name="jit(step)/while/body/rope/pallas_call"}
  %near = f32[8,4]{1,0:T(8,128)S(1)} copy(%x)
  %mpmd_map.7 = f32[8,4]{1,0:T(8,128)} custom-call(%x, %near), \
custom_call_target="mosaic_gpu_v2", \
metadata={op_name="jit(step)/while/body/attention/mpmd_map"}
  ROOT %out = (s32[], f32[8,4]{1,0:T(8,128)}) tuple(%next, %mpmd_map.7)
}

%condition (c: (s32[], f32[8,4])) -> pred[] {
  %c = (s32[], f32[8,4]{1,0:T(8,128)}) parameter(0)
  %j = s32[] get-tuple-element(%c), index=0
  %n = s32[] constant(3)
  ROOT %less = pred[] compare(%j, %n), direction=LT
}

ENTRY %main (a: f32[8,4]) -> (s32[], f32[8,4]) {
  %a = f32[8,4]{1,0:T(8,128)} parameter(0)
  %zero = s32[] constant(0)
  %start = (s32[], f32[8,4]{1,0:T(8,128)}) tuple(%zero, %a)
  ROOT %loop = (s32[], f32[8,4]{1,0:T(8,128)}) while(%start), \
condition=%condition, body=%body
}
"""
ARRAY = 8 * 128 * 4  # bytes


@pytest.fixture(scope="module")
def kernels():
  return program.trace(hlo.parse(TEXT))


def test_kernels_have_the_names_that_jax_gave_them(kernels):
  assert costs.kernel_calls(kernels) == {"rope": 3, "attention": 3}


def test_a_kernel_takes_as_long_as_its_bytes_at_least(kernels):
  found = costs.by_kernel(kernels, {}, peak_flops=1e9, bytes_per_second=1e6)
  assert found == pytest.approx(
    {"rope": 3 * 3 * ARRAY / 1e6, "attention": 3 * 2 * ARRAY / 1e6}
  )


def test_a_kernel_takes_as_long_as_its_flops_at_least(kernels):
  flops = {"attention": 10**9, "rope": 9, "gone": 10**6}
  found = costs.by_kernel(kernels, flops, peak_flops=1e9, bytes_per_second=1e6)
  assert found == pytest.approx(
    {"rope": 9 * ARRAY / 1e6, "attention": 1.0, "gone": 1e-3}
  )


# ---------------------------------------------------------------- rooflines

# A product, a sum in a fusion, a slice of a stack, a gather that waits and a
# reduction that overlaps. Float32 without tiles.
STEP = """HloModule step, is_scheduled=true

%add (l: f32[], r: f32[]) -> f32[] {
  %l = f32[] parameter(0)
  %r = f32[] parameter(1)
  ROOT %s = f32[] add(%l, %r)
}

%reduced (q: f32[64,128]) -> f32[64] {
  %q = f32[64,128]{1,0} parameter(0)
  %nought = f32[] constant(0)
  ROOT %sum = f32[64]{0} reduce(%q, %nought), dimensions={1}, to_apply=%add
}

ENTRY %main (a: f32[64,512], w: f32[128,128], k: f32[9,64,128]) -> f32[64] {
  %a = f32[64,512]{1,0} parameter(0)
  %w = f32[128,128]{1,0} parameter(1)
  %k = f32[9,64,128]{2,1,0} parameter(2)
  %z = s32[] constant(0)
  %g = f32[512,128]{1,0} all-gather(%w), channel_id=1, \
replica_groups={{0,1,2,3}}, dimensions={0}
  %dot = f32[64,128]{1,0} dot(%a, %g), lhs_contracting_dims={1}, \
rhs_contracting_dims={0}
  %slice = f32[1,64,128]{2,1,0} dynamic-slice(%k, %z, %z, %z), \
dynamic_slice_sizes={1,64,128}
  %start = f32[64,128]{1,0} all-reduce-start(%dot), channel_id=2, \
replica_groups=[1,4]<=[4], to_apply=%add
  %done = f32[64,128]{1,0} all-reduce-done(%start)
  ROOT %out = f32[64]{0} fusion(%done), kind=kLoop, calls=%reduced
}
"""
FLOPS = 2 * 64 * 512 * 128
DOT_BYTES = 4 * (64 * 512 + 512 * 128 + 64 * 128)
SLICE_BYTES = 4 * 2 * 64 * 128
SUM_BYTES = 4 * (64 * 128 + 64)
GATHERED, REDUCED = 4 * 512 * 128, 4 * 64 * 128


@pytest.fixture(scope="module")
def step():
  return program.trace(hlo.parse(STEP))


@pytest.mark.parametrize("peak", [1e9, 1e15])
def test_a_roofline_is_the_larger_of_flops_and_bytes(step, peak):
  """By hand, one instruction after the other; communication has none."""
  found = costs.by_roofline(step, peak, bytes_per_second=1e6)
  assert [(c.work, c.seconds) for c in found] == [
    ("matmul", pytest.approx(max(FLOPS / peak, DOT_BYTES / 1e6))),
    ("copy", pytest.approx(SLICE_BYTES / 1e6)),
    ("reduce", pytest.approx(SUM_BYTES / 1e6)),
  ]


def test_communication_is_summed_by_kind(step):
  found = collectives.collectives(step)
  assert collectives.summary(found) == {
    "all-gather": dict(
      count=1,
      bytes=GATHERED,
      instructions=1,
      overlapped_count=0,
      overlapped_bytes=0,
      overlapped_instructions=0,
    ),
    "all-reduce": dict(
      count=1,
      bytes=REDUCED,
      instructions=1,
      overlapped_count=1,
      overlapped_bytes=REDUCED,
      overlapped_instructions=1,
    ),
  }


@pytest.mark.parametrize(
  "kind, factor",
  [
    ("all-gather", 3 / 4),
    ("reduce-scatter", 3 / 4),
    ("all-reduce", 6 / 4),
    ("all-to-all", 3 / 4),
    ("collective-permute", 1),
    ("send", 1),
  ],
)
def test_what_a_device_sends_by_kind(kind, factor):
  of = lambda group: collectives.Collective(kind, 1000, group, 3, True, "")
  assert of(4).sent(99) == of(0).sent(4) == 3000 * factor
  assert of(1).sent(99) == (3000 if factor == 1 else 0)


def chip(**changes) -> chips.Chip:
  return chips.Chip(
    **dict(
      name="toy",
      platform="tpu",
      hbm_bytes=2**30,
      peak_flops=1e9,
      hbm_bandwidth=1e8,
      link_bytes=1e7,
      network_bytes=1e6,
    )
    | changes
  )


@pytest.mark.parametrize(
  "link, network, platform, host",
  [
    (1e7, 1e6, "tpu", 2),
    (1e9, 1e6, "tpu", 2),
    (1e7, 1e6, "cuda", 2),
    (1e7, 1e6, "cuda", 4),
  ],
)
def test_a_steps_time_is_its_parts(step, link, network, platform, host):
  """Work, kernels, what waits, and what overlapping work cannot hide."""
  topology = chips.Topology(
    chip=chip(
      link_bytes=link,
      network_bytes=network,
      platform=platform,
      host_devices=host,
    ),
    sizes=(4,),
  )
  job = types.SimpleNamespace(
    asked=counts.Counts(7, {"flash": 4 * 10**7}),
    tokens=1000,
    model=counts.Counts(4 * FLOPS // 2),
  )
  found = plan_lib._times(job, topology, step, 8, quick=False)
  work = max(FLOPS / 1e9, DOT_BYTES / 1e8) + (SLICE_BYTES + SUM_BYTES) / 1e8
  kernels = 10**7 / 1e9  # of one device of four
  # Four GPUs of two hosts talk over the network, those of one do not.
  speed = network if (platform, host) == ("cuda", 2) else link
  waits, hides = GATHERED * 3 / 4 / speed, REDUCED * 6 / 4 / speed
  left = max(hides - work - kernels, 0)
  estimate = work + kernels + waits + left
  assert found["step_seconds_bound"] == pytest.approx(work)
  assert found["kernel_seconds"] == pytest.approx(kernels)
  assert found["step_seconds_estimate"] == pytest.approx(estimate)
  assert found["link_seconds"] == pytest.approx(waits + hides)
  assert found["exposed_seconds"] == pytest.approx(waits + left)
  assert found["tokens_per_second"] == pytest.approx(1000 / estimate)
  useful = FLOPS / 2 / 1e9
  assert found["mfu_bound"] == pytest.approx(useful / work)
  assert found["mfu_with_kernels"] == pytest.approx(useful / (work + kernels))
  assert found["mfu_estimate"] == pytest.approx(useful / estimate)
  assert found["method"] == "roofline"
