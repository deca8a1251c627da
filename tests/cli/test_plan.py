"""Mistakes at the planner's command line are one line, before any compiling."""

import json

import pytest

from emma_jax.build import config_file
from emma_jax.cli import common, plan
from emma_jax.cli.plan import machine, progress

TINY = ["--config", "configs/tiny.py"]


@pytest.mark.parametrize(
  "arguments, said",
  [
    (["--topology", "v9:2x2"], "chips are v4, v5e"),
    (["--topology", "v5e:2"], "its 2 axes"),
    (["--topology", "h100:8", "--slices", "2"], "1 for GPUs"),
  ],
)
def test_a_wrong_topology_is_one_line(arguments, said, capsys):
  assert plan.main([*TINY, *arguments]) == 2
  shown = capsys.readouterr().err
  assert said in shown and "Traceback" not in shown


def test_a_missing_or_foreign_compiler_is_refused(monkeypatch, capsys):
  from emma_jax.planner import chips

  monkeypatch.setattr(chips.importlib.metadata, "version", lambda name: "0.0.1")
  assert plan.main([*TINY, "--topology", "v5e:2x2"]) == 2
  assert "Install the pair: pip install" in capsys.readouterr().err


def test_several_stages_need_a_choice():
  config = config_file.load("configs/tiny.py")
  args = plan._parser().parse_args([*TINY, "--topology", "v5e:2x2"])
  with pytest.raises(common.UserError, match="choose one of 0_alignment"):
    plan._stage(args, config)


def test_a_recipe_is_printed_at_once(capsys):
  """Of every stage; nothing is compiled, no compiler is needed."""
  arguments = ["--config", "configs/emma_4b.py", "--topology", "h100:8"]
  assert plan.main([*arguments, "--what", "recipe", "--json"]) == 0
  found = json.loads(capsys.readouterr().out)
  assert list(found)[:2] == ["0_alignment", "1_pretraining"]
  assert found["1_pretraining"]["samples"] == pytest.approx(4096, rel=0.1)
  assert found["1_pretraining"]["accumulation"] == 16
  more = ["--what", "recipe", "--stage", "3_quality"]
  assert plan.main([*arguments, *more]) == 0
  shown = capsys.readouterr().out
  assert "3_quality" in shown and "batch is 2,304 samples" in shown
  assert "0_align" not in shown


def test_a_config_that_knows_machines_gets_the_topology():
  def mesh(*arguments, config="configs/emma_4b.py:stage1"):
    args = plan._parser().parse_args(
      ["--config", config, "--topology", *arguments]
    )
    return dict(machine.config(args, machine.topology(args), {}).mesh)

  assert mesh("v6e:16x16", "--slices", "2")["slice"] == 2
  assert mesh("h100:8")["fsdp"] == 8
  assert mesh("v5e:16x16") != mesh("v5p:4x4x4")
  # A machine that it does not know: as for its default one.
  assert mesh("v4:4x4x4") == mesh("v5p:4x4x4")
  # One that is named stays.
  named = "emma_4b.py:stage1,v5e-256"
  assert mesh("v5p:4x4x4", config=named) == mesh("v5e:16x16")
  assert mesh("h100:8", config="emma_4b.py") == mesh("h100:8")
  # Of a machine in the name alone.
  args = plan._parser().parse_args(["--config", named])
  assert str(machine.topology(args)) == "v5e:16x16"
  for config in ("tiny", "tiny:token_fusion", "reference"):
    assert mesh("h100:8", config=config)["fsdp"] == 1


@pytest.mark.parametrize(
  "arguments, found",
  [
    (["--config", "emma_4b:stage1,v5e-256"], "v5e:16x16"),
    (["--config", "emma_4b:2xv6e-256"], "2 x v6e:16x16"),
  ],
)
def test_a_machine_that_the_config_names_is_planned_for(arguments, found):
  args = plan._parser().parse_args(arguments)
  assert str(machine.topology(args)) == found


def test_flags_are_the_chips_and_the_environments_win(monkeypatch):
  from emma_jax.planner import chips

  monkeypatch.setenv("LIBTPU_INIT_ARGS", "--xla_mine=3")
  args = plan._parser().parse_args([*TINY, "--topology", "v5e:2x2"])
  flags = plan._flags(args, chips.topology("v5e:2x2"))
  assert flags["xla_mine"] == "3" and len(flags) > 1
  args = plan._parser().parse_args(
    [*TINY, "--topology", "v5e:2x2", "--no-flags"]
  )
  assert not plan._flags(args, chips.topology("v5e:2x2"))


def test_a_machine_must_be_named(capsys):
  assert plan.main(["--config", "emma_4b:stage1"]) == 2
  assert "emma_4b:stage1,v5e-256" in capsys.readouterr().err


def test_a_machine_that_no_config_knows_is_planned_like_another(capsys):
  """With all weights split over its devices."""

  def mesh(name: str, config: str = "emma_0_6b:stage1", **keys: str):
    args = plan._parser().parse_args(["--config", config, "--topology", name])
    found = machine.config(args, machine.topology(args), keys)
    return {axis: n for axis, n in dict(found.mesh).items() if n != 1}

  assert mesh("rtx4090") == {} and mesh("a100:4") == {"fsdp": 4}
  assert mesh("v5e-8") == {"fsdp": 8}
  assert mesh("v6e:4") == {"fsdp": 4}
  assert "planned with the rows of h100" in capsys.readouterr().err
  # What is said wins; a machine that is named stays.
  keys = {"mesh.fsdp": "2", "mesh.data": "2"}
  assert mesh("a100:4", **keys) == {"fsdp": 2, "data": 2}
  assert mesh("a100", "emma_0_6b:stage1,8xh100") == {"fsdp": 8}
  assert not mesh("rtx4090", "tiny").get("fsdp")


@pytest.fixture
def made(monkeypatch):
  """Plans without a compiler: what is asked for, and a fixed answer."""
  from emma_jax.planner import chips
  from tests.goldens import plans

  def answer(args, config, topology, devices):
    stages = list(config["stages"])
    names = ["denoise", "decode"] if args.what == "sample" else stages[:1]
    return [
      plans.made(name=n, topology=str(topology), whole_weights=())
      for n in names
    ]

  monkeypatch.setattr(chips, "describe", lambda topology: [])
  monkeypatch.setattr(plan, "_plans", answer)
  return plans.made()


def test_a_brief_plan_says_what_the_stage_takes(made, capsys):
  argv = ["--config", "emma_4b:stage1,v5e-256", "--brief"]
  assert plan.main([*argv, "--usd-per-chip-hour", "1.2"]) == 0
  out = " ".join(capsys.readouterr().out.split())
  steps = made.recipe.steps
  assert f"{steps:,} steps x 1.68 s = " in out and "chip-hours, $" in out
  assert "an MFU of 0.54" in out and "Largest arrays" not in out
  assert plan.main([*argv, "--mfu", "0.25", "--json"]) == 0
  took = json.loads(capsys.readouterr().out)["duration"]
  assert took["chips"] == 256 and took["mfu"] == 0.25
  assert took["seconds"] == pytest.approx(steps * took["step_seconds"])
  with pytest.raises(SystemExit):
    plan.main([*argv, "--mfu", "0"])


def test_a_brief_sample_says_what_a_picture_takes(made, capsys):
  argv = ["--config", "emma_4b:stage3", "--topology", "l4", "--brief"]
  assert plan.main([*argv, "--what", "sample", "--task", "draw"]) == 0
  out = " ".join(capsys.readouterr().out.split())
  assert "1 at once: a picture's 50 steps 83.9 s" in out


def test_needs_are_those_of_the_commands_beside_them(monkeypatch, capsys):
  """A row a task, a column a machine; each figure by a command that parses."""
  import shlex
  import subprocess

  from emma_jax.cli.plan import needs
  from emma_jax.planner import duration, table
  from tests.goldens import plans

  took = duration.of([plans.made()], chips=8)
  fits = table.as_json([plans.made(recipe=None)], took)
  large = table.as_json([plans.made(fits=False)])

  def run(command, **options):
    words = command[3:]
    text, error = json.dumps(fits), ""
    if "h100:1" in words and "emma_4b:stage1" in words:
      text = json.dumps(large)
    if "h100:1" in words and "emma_4b:stage3,fixed" in words:
      text, error = "", "warning\nerror: no such rows"
    return subprocess.CompletedProcess(command, 0, text, error)

  monkeypatch.setattr(needs.subprocess, "run", run)
  argv = ["--config", "emma_4b", "--what", "needs", "--machines"]
  assert plan.main([*argv, "h100", "v5e-16"]) == 0
  head, _, *lines = capsys.readouterr().out.splitlines()
  assert head == "|  | h100:1 | v5e:4x4 |"
  rows = dict(line.strip("| ").split(" | ", 1) for line in lines[:5])
  assert list(rows) == [task.name for task in needs.TASKS]
  memory = "9.1 of 16.0 GiB"
  cells = rows["draw at 1024"].split(" | ")
  assert cells == [f"{memory}, 83.9 s", f"{memory}, 83.9 s for 16"]
  assert rows["train all (stage 1)"].startswith(f"does not fit: {memory} | ")
  assert "no plan: no such rows" in rows["train all (stage 3, at 1024)"]
  assert duration.spoken(took.seconds) in rows["train all (stage 1)"]
  commands = [line.strip() for line in lines if line.startswith("  emma-plan")]
  assert len(commands) == 2 * len(needs.TASKS)
  for command in commands:
    args = plan._parser().parse_args(shlex.split(command)[1:])
    assert args.quick == (args.topology == "v5e:4x4")
  assert plan.main(["--config", "emma_4b:stage1", "--what", "needs"]) == 2


def test_what_is_done_is_said_on_stderr(capsys):
  """Without a terminal a line at its beginning, and one with its seconds."""
  with progress.phase("Compiling denoise (1 of 2)"):
    assert capsys.readouterr().err == "Compiling denoise (1 of 2) ...\n"
  shown = capsys.readouterr()
  assert shown.err == "Compiling denoise (1 of 2): 0 s\n" and not shown.out
