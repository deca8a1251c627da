"""What a plan makes of the compiler's numbers, without a compiler."""

import types

import pytest

from emma_jax.planner import chips, plan
from emma_jax.planner import collectives as collectives_lib

pytestmark = pytest.mark.smoke

Fake = types.SimpleNamespace


def memory(monkeypatch, **sizes) -> dict[str, int]:
  monkeypatch.setattr(plan.buffers, "kept", lambda program, backward: 0)
  given = dict(
    argument_size_in_bytes=100,
    temp_size_in_bytes=0,
    output_size_in_bytes=0,
    alias_size_in_bytes=0,
    generated_code_size_in_bytes=0,
  )
  job = Fake(arguments={"weights": 100}, accumulated=0)
  return plan._memory(job, Fake(**(given | sizes)), None)


def test_outputs_in_an_arguments_place_take_no_more(monkeypatch):
  assert memory(
    monkeypatch, output_size_in_bytes=90, alias_size_in_bytes=90
  ) == {"weights": 100}
  assert memory(
    monkeypatch, output_size_in_bytes=90, alias_size_in_bytes=70
  ) == {"weights": 100, "outputs": 20}


def test_kinds_sum_to_what_the_program_occupies(monkeypatch):
  found = memory(
    monkeypatch,
    argument_size_in_bytes=130,
    temp_size_in_bytes=40,
    output_size_in_bytes=9,
    generated_code_size_in_bytes=7,
  )
  assert sum(found.values()) == 130 + 40 + 9 + 7
  assert found["padding"] == 30


def collective(group: int) -> collectives_lib.Collective:
  return collectives_lib.Collective(
    kind="all-gather",
    bytes=8,
    group=group,
    count=1,
    overlapped=False,
    source="",
  )


@pytest.mark.parametrize(
  "name, group, leaves",
  [
    ("h100:8", 0, False),
    ("h100:16", 8, False),
    ("h100:16", 4, False),
    ("h100:16", 0, True),
    ("h100:16", 16, True),
  ],
)
def test_a_group_within_a_host_does_not_leave_it(name, group, leaves):
  assert plan._leaves(collective(group), chips.topology(name, 1)) == leaves


def test_mfu_is_of_all_devices(monkeypatch):
  """A step at the peak of every chip has an MFU of one."""
  topology = chips.topology("v5p:2x2x1", 1)
  spent = [Fake(seconds=2.0, work="product", source="")]
  monkeypatch.setattr(plan.costs, "by_roofline", lambda *_: spent)
  monkeypatch.setattr(plan.costs, "by_kernel", lambda *_: {})
  monkeypatch.setattr(plan.costs, "kernel_calls", lambda _: {})
  monkeypatch.setattr(plan.collectives_lib, "collectives", lambda _: [])
  matmul = 2.0 * topology.devices * topology.chip.peak_flops
  job = Fake(model=Fake(matmul=matmul), asked=Fake(kernels={}), tokens=8)
  found = plan._times(job, topology, None, top=1, quick=True)
  assert found["mfu_bound"] == pytest.approx(1.0)
  assert found["mfu_with_kernels"] == pytest.approx(1.0)
  assert found["tokens_per_second"] == pytest.approx(4.0)
