"""Laws of the time that kernels are given."""

import pytest

from emma_jax.planner import costs, hlo, program

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
      {"rope": 3 * 3 * ARRAY / 1e6, "attention": 3 * 2 * ARRAY / 1e6})


def test_a_kernel_takes_as_long_as_its_flops_at_least(kernels):
  flops = {"attention": 10**9, "rope": 9, "gone": 10**6}
  found = costs.by_kernel(kernels, flops, peak_flops=1e9, bytes_per_second=1e6)
  assert found == pytest.approx(
      {"rope": 9 * ARRAY / 1e6, "attention": 1.0, "gone": 1e-3})
