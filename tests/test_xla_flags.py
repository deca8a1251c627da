"""Every chip's flags are accepted by the compiler in use."""

import importlib.util
import os
import subprocess
import sys

import pytest

from emma_jax import xla_flags
from emma_jax.planner.chip_table import CHIPS
from tests.goldens import machines, store

pytestmark = pytest.mark.smoke

# The smallest topology of several hosts: collectives are in the program.
TOPOLOGIES = {
  "v4": "v4:2x2x4",
  "v5e": "v5e:4x4",
  "v5p": "v5p:2x2x4",
  "v6e": "v6e:4x4",
  "tpu7x": "tpu7x:2x2x4",
}
COMPILE = """
import sys
import jax, jax.numpy as jnp
from jax.experimental import topologies
from jax.sharding import NamedSharding, PartitionSpec as P
name = sys.argv[1]
more = {"chip_config_name": "megacore"} if name.startswith("v4") else {}
chips = topologies.get_topology_desc(
    platform="tpu", topology_name=name, **more)
mesh = topologies.make_mesh(chips, (len(chips.devices),), ("fsdp",))
rows = NamedSharding(mesh, P("fsdp"))
x = jax.ShapeDtypeStruct((1024, 1024), jnp.bfloat16, sharding=rows)
loss = lambda w, x: jnp.sum((x @ w).astype(jnp.float32)**2)
step = jax.jit(jax.grad(loss), in_shardings=rows, out_shardings=rows)
print(step.lower(x, x).compile().as_text().count("all-gather"))
"""


def compiled(chip: str, **more: str) -> subprocess.CompletedProcess:
  env = (
    os.environ
    | xla_flags.variables(chip)
    | {
      "JAX_PLATFORMS": "cpu",
      "TPU_SKIP_MDS_QUERY": "1",
      "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    }
    | more
  )
  return subprocess.run(
    [sys.executable, "-c", COMPILE, TOPOLOGIES[chip]],
    env=env,
    capture_output=True,
    text=True,
    timeout=300,
  )


needs_libtpu = pytest.mark.skipif(
  importlib.util.find_spec("libtpu") is None,
  reason='needs libtpu: pip install "emma_jax[tpu]"',
)


@needs_libtpu
@pytest.mark.parametrize("chip", TOPOLOGIES)
def test_the_tpu_compiler_accepts_the_flags(chip):
  done = compiled(chip)
  assert done.returncode == 0, done.stderr[-2000:]
  assert int(done.stdout.split()[-1]) > 0  # something was sharded


@needs_libtpu
def test_a_stale_flag_is_rejected():
  """Or the test above would say nothing."""
  done = compiled("v5e", LIBTPU_INIT_ARGS="--xla_tpu_no_such_flag=true")
  assert done.returncode != 0 and "no_such_flag" in done.stderr


@pytest.mark.parametrize(
  "flags, good",
  [
    (xla_flags.variables("h100")["XLA_FLAGS"], True),
    ("--xla_gpu_no_such_flag=true", False),
  ],
)
def test_xla_knows_the_gpu_flags(flags, good):
  """XLA_FLAGS are parsed whole, on any device."""
  done = subprocess.run(
    [sys.executable, "-c", "import jax; jax.numpy.ones(1)"],
    env=os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"},
    capture_output=True,
    text=True,
    timeout=300,
  )
  assert (done.returncode == 0) == good, done.stderr


def test_flags_of_every_chip_are_as_they_were():
  store.check("machines", "flags", machines.flags(), store.EXACT)


def test_what_the_environment_holds_comes_last_or_wins():
  got = xla_flags.variables(
    "h100", {"XLA_FLAGS": "--a=1  --b", "NCCL_NVLS_ENABLE": "0"}
  )
  assert got["XLA_FLAGS"].split()[-2:] == ["--a=1", "--b"]
  assert got["NCCL_NVLS_ENABLE"] == "0"
  assert got["XLA_PYTHON_CLIENT_MEM_FRACTION"] == "0.9"
  own = xla_flags.variables("v5e")["LIBTPU_INIT_ARGS"].split()
  assert own == [f"{f.name}={f.value}" for f in xla_flags.TABLE["v5e"]]


def test_every_flag_has_a_reason_and_stands_once():
  for chip, flags in xla_flags.TABLE.items():
    names = [flag.name for flag in flags]
    assert len(set(names)) == len(names), chip
    assert all(flag.reason for flag in flags), chip
  tpus = set(xla_flags.TABLE) - set(xla_flags._GPUS)
  assert tpus == set(TOPOLOGIES)  # none escapes the compiler
  assert set(xla_flags.TABLE) == set(CHIPS)


def test_a_shell_gets_exports_and_a_reader_reasons(capsys, monkeypatch):
  monkeypatch.setenv("LIBTPU_INIT_ARGS", "--mine='a b'")
  assert xla_flags.main(["v5p"]) == 0
  line = capsys.readouterr().out
  got = subprocess.run(
    ["bash", "-c", f'{line}echo "$LIBTPU_INIT_ARGS"'],
    capture_output=True,
    text=True,
    check=True,
  ).stdout
  assert got.startswith("--xla_tpu") and got.rstrip().endswith("--mine='a b'")
  assert xla_flags.main(["v5p", "--explain"]) == 0
  assert xla_flags.TABLE["v5p"][0].reason in capsys.readouterr().out
  with pytest.raises(ValueError, match="v9.*choose v4"):
    xla_flags.variables("v9")


def test_a_tpu_is_seen_by_its_device_or_on_the_bus(tmp_path):
  bus = tmp_path / "sys/bus/pci/devices/0000:00:04.0"
  for folder in (bus, tmp_path / "dev/vfio"):
    folder.mkdir(parents=True)
  (tmp_path / "dev/vfio/vfio").touch()  # the driver's own, of any machine
  (bus / "vendor").write_text("0x1af4\n")
  assert not xla_flags.has_tpu(tmp_path)
  for file in (tmp_path / "dev/accel0", tmp_path / "dev/vfio/0"):
    file.touch()
    assert xla_flags.has_tpu(tmp_path), file
    file.unlink()
  (bus / "vendor").write_text("0x1ae0\n")
  assert xla_flags.has_tpu(tmp_path)


@pytest.mark.parametrize("seen", [False, True])
def test_libtpu_is_calm_only_where_no_tpu_is(seen, monkeypatch):
  monkeypatch.setattr(xla_flags, "has_tpu", lambda: seen)
  monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
  environ = {"TPU_WORKER_HOSTNAMES": "10.0.0.1"}
  monkeypatch.setattr(os, "environ", environ)
  xla_flags.calm_libtpu()
  assert environ["TPU_WORKER_HOSTNAMES"] == "10.0.0.1"
  assert ("TPU_SKIP_MDS_QUERY" in environ) != seen
