"""What the launch scripts would run, read from --dry-run."""

import os
import pathlib
import shlex
import subprocess
import sys

import pytest
import yaml

from emma_jax import exits, xla_flags
from emma_jax.cli import common, evaluate, sample, speed, train
from emma_jax.exits import Exit

LAUNCH = pathlib.Path(__file__).parents[1] / "launch"
RUN = ["--config", "configs/tiny.py", "--workdir", 'runs/a "b" $c&d']
AT = ["--name", "emma", "--project", "p", "--zone", "z"]


def dry(script: str, *arguments: str) -> str:
  done = subprocess.run(
    ["bash", LAUNCH / script, *arguments[:1], "--dry-run", *arguments[1:]],
    capture_output=True,
    text=True,
    timeout=60,
    env=os.environ | {"EMMA_PYTHON": "python"},
  )
  assert done.returncode == 0, done.stderr
  return done.stdout


def fails(script: str, *arguments: str) -> str:
  done = subprocess.run(
    ["bash", LAUNCH / script, *arguments],
    capture_output=True,
    text=True,
    timeout=60,
  )
  assert done.returncode == 2
  return done.stderr


def split(line: str) -> list[str]:
  """As bash reads it; Python's shlex does not know its $'...'."""
  done = subprocess.run(
    ["bash", "-c", f'printf "%s\\0" {line}'],
    capture_output=True,
    text=True,
    check=True,
  )
  return done.stdout.split("\0")[:-1]


def understood(words: list[str]):
  """The trainer takes what follows its name."""
  module = words.index("emma_jax.cli.train")
  args = train._parser().parse_args(words[module + 1 :])
  assert (args.config, args.workdir) == (RUN[1], pathlib.Path(RUN[3]))
  return args


def test_one_machine():
  flags, command = dry(
    "local.sh", "--chip", "h100", "--processes", "2", "--", *RUN[:-1], RUN[-1]
  ).splitlines()
  assert "xla_flags" in flags and "h100" in flags
  words = shlex.split(command)
  assert words[words.index("--processes") + 1] == "2"
  understood(words)
  assert "--rest is missing" in fails("local.sh")


def test_a_gpu_is_measured(monkeypatch, tmp_path):
  monkeypatch.setenv("OUT", str(tmp_path))
  installed, command = dry(
    "bench_gpu.sh",
    "--wheels",
    "a b",
    "--parts",
    "train",
    "torch",
    "--config.train.seed=1",
  ).splitlines()
  words = shlex.split(installed)
  # Nothing is fetched: only the files that were brought along.
  assert {"--no-index", "--no-deps", "--target"} <= set(words)
  words = shlex.split(command)
  words = words[words.index("emma_jax.cli.speed") + 1 :]
  overrides, rest = common.parse_overrides(words)
  args = speed._parser().parse_args(rest)
  assert args.parts == ["train", "torch"] and overrides == {"train.seed": "1"}
  assert args.json == tmp_path / "bench_gpu.json"
  monkeypatch.delenv("OUT")
  (command,) = dry("bench_gpu.sh", "--limit", "60").splitlines()
  assert "--json" not in command and "pip" not in command
  first, *_ = dry("bench_gpu.sh", "--install").splitlines()
  assert "[cuda,torch]" in shlex.split(first)[-1]


def test_slurm():
  flags, command = dry("slurm.sh", *RUN).splitlines()
  assert "h100" in flags
  words = shlex.split(command)
  assert words[:2] == ["srun", "--kill-on-bad-exit=1"]
  understood(words)


@pytest.mark.parametrize("code", [*Exit][1:], ids=lambda code: code.name)
def test_slurm_begins_again_what_may_end_otherwise(tmp_path, code):
  """With stand-ins for SLURM's programs, which say that they were called."""
  calls = tmp_path / "calls"
  for name, ends in (("srun", code), ("scontrol", 0), ("sleep", 0), ("py", 0)):
    (tmp_path / name).write_text(
      f"#!/bin/sh\necho {name} >>{calls}\nexit {ends}\n"
    )
    (tmp_path / name).chmod(0o755)
  done = subprocess.run(
    ["bash", LAUNCH / "slurm.sh", *RUN],
    capture_output=True,
    timeout=60,
    cwd=tmp_path,
    env=os.environ
    | {
      "PATH": f"{tmp_path}:{os.environ['PATH']}",
      "EMMA_PYTHON": str(tmp_path / "py"),
      "SLURM_SUBMIT_DIR": str(LAUNCH.parent),
      "SLURM_JOB_ID": "7",
    },
  )
  said = calls.read_text().split()
  tries = 1 if code in exits.FINAL or code == Exit.STOPPED else 5
  assert said.count("srun") == tries
  assert said.count("scontrol") == (code == Exit.STOPPED)
  assert done.returncode == (0 if code == Exit.STOPPED else code)


@pytest.mark.parametrize(
  "chip, image",
  [
    ("v4", "tpu-ubuntu2204-base"),
    ("v5e", "v2-alpha-tpuv5-lite"),
    ("v5p", "v2-alpha-tpuv5"),
    ("v6e", "v2-alpha-tpuv6e"),
  ],
)
def test_tpu_machines_are_requested(chip, image):
  words = shlex.split(
    dry("tpu_vm.sh", "create", *AT, "--chip", chip, "--type", f"{chip}-16")
  )
  assert words[:5] == [
    "gcloud",
    "compute",
    "tpus",
    "queued-resources",
    "create",
  ]
  assert image in words and "--node-id" in words and "--spot" not in words


def test_several_slices_are_requested_together():
  words = shlex.split(
    dry(
      "tpu_vm.sh",
      "create",
      *AT,
      "--chip",
      "v6e",
      "--type",
      "v6e-256",
      "--slices",
      "2",
      "--spot",
    )
  )
  at = words.index("--node-count")
  assert words[at + 1 : at + 4] == ["2", "--node-prefix", "emma"]
  assert "--spot" in words


def test_tpu_machines_train_on_all_hosts():
  words = split(dry("tpu_vm.sh", "train", *AT, "--chip", "v5p", "--", *RUN))
  assert "--node=all" in words and "--worker=all" in words
  command = words[-1].removeprefix("--command=")
  assert "xla_flags v5p" in command and "emma_jax.supervise" in command
  assert understood(shlex.split(command)).distributed == "on"
  assert "delete" in dry("tpu_vm.sh", "delete", *AT)
  assert "gcsfuse" in dry("tpu_vm.sh", "setup", *AT, "--bucket", "b")


def test_tpu_machines_ask_for_what_is_missing():
  assert "tpu_vm.sh create" in fails("tpu_vm.sh")
  assert "--zone is missing" in fails("tpu_vm.sh", "create", *AT[:4])
  assert "choose v4" in fails(
    "tpu_vm.sh", "create", *AT, "--type", "x", "--chip", "v9"
  )


@pytest.mark.parametrize(
  "chip, topology, hosts, chips",
  [("v5p", "4x4x4", 16, 4), ("v6e", "16x16", 64, 4), ("v5e", "2x2", 1, 4)],
)
def test_gke(chip, topology, hosts, chips):
  out = yaml.safe_load(
    dry(
      "gke.sh",
      "--name",
      "emma",
      "--image",
      "gcr.io/p/emma:1",
      "--chip",
      chip,
      "--topology",
      topology,
      "--claim",
      "disk",
      "--slices",
      "2",
      "--",
      *RUN,
    )
  )
  assert out["kind"] == "JobSet" and not out["metadata"]["labels"]
  assert out["spec"]["failurePolicy"]["maxRestarts"] == 20
  (slices,) = out["spec"]["replicatedJobs"]
  assert slices["replicas"] == 2
  job = slices["template"]["spec"]
  assert (job["parallelism"], job["completions"]) == (hosts, hosts)
  assert job["backoffLimit"] == 0
  (rule,) = job["podFailurePolicy"]["rules"]
  assert set(rule["onExitCodes"]["values"]) == set(map(int, exits.FINAL))
  assert rule["onExitCodes"]["containerName"] == "train"
  (rule,) = out["spec"]["failurePolicy"]["rules"]
  assert rule["onJobFailureReasons"] == ["PodFailurePolicy"]
  pod = job["template"]["spec"]
  assert pod["nodeSelector"]["cloud.google.com/gke-tpu-topology"] == topology
  (container,) = pod["containers"]
  assert container["image"] == "gcr.io/p/emma:1"
  assert container["resources"]["limits"]["google.com/tpu"] == chips
  assert {"name": "EMMA_STOPPED_CODE", "value": "75"} in container["env"]
  (command,) = container["args"]
  assert f"xla_flags {chip})" in command
  understood(shlex.split(command))
  assert pod["volumes"][0]["persistentVolumeClaim"]["claimName"] == "disk"


def test_gke_waits_in_a_queue_and_asks_for_what_is_missing():
  out = yaml.safe_load(
    dry(
      "gke.sh",
      "--name",
      "e",
      "--image",
      "i",
      "--chip",
      "v4",
      "--topology",
      "2x2x4",
      "--claim",
      "c",
      "--queue",
      "lab",
      "--",
      *RUN,
    )
  )
  assert out["metadata"]["labels"] == {"kueue.x-k8s.io/queue-name": "lab"}
  assert "--topology is missing" in fails(
    "gke.sh", "--name", "e", "--image", "i", "--chip", "v4"
  )


def test_the_shells_line_is_right(tmp_path):
  """What every script evaluates works in a shell."""
  line = f'eval "$({sys.executable} -m emma_jax.xla_flags v6e)"'
  got = subprocess.run(
    ["bash", "-c", f'{line}; echo "$LIBTPU_INIT_ARGS"'],
    capture_output=True,
    text=True,
    check=True,
    cwd=LAUNCH.parent,
  ).stdout
  want = xla_flags.variables("v6e", os.environ)["LIBTPU_INIT_ARGS"]
  assert got.strip() == want


def test_what_the_demo_says_to_try_next_is_understood():
  text = (LAUNCH / "demo.sh").read_text().replace("\\\\\n", " ")
  lines = [x.strip() for x in text.splitlines() if x.startswith("  $python")]
  assert len(lines) == 5
  parsers = {"sample": sample, "evaluate": evaluate, "train": train}
  for line in lines:
    _, _, module, *words = shlex.split(line.replace("$workdir", "runs/demo"))
    parser = parsers[module.removeprefix("emma_jax.cli.")]._parser()
    parser.parse_args(words)
