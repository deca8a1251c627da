"""Mistakes at the planner's command line are one line, before any compiling."""

import json

import pytest

from emma_jax.build import config_file
from emma_jax.cli import common, plan

TINY = ["--config", "configs/tiny.py"]


@pytest.mark.parametrize(
  "arguments, said",
  [
    (["--topology", "v9:2x2"], "chips are v4, v5e"),
    (["--topology", "v5e:2"], "a v5e has 2 axes"),
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
    return dict(plan._config(args, {}).mesh)

  assert mesh("v6e:16x16", "--slices", "2")["slice"] == 2
  assert mesh("h100:8")["fsdp"] == 8
  assert mesh("v5e:16x16") != mesh("v5p:4x4x4")
  # A machine that it does not know: as for its default one.
  assert mesh("v4:4x4x4") == mesh("v5p:4x4x4")
  # One that is named stays.
  named = "emma_4b.py:stage1,v5e-256"
  assert mesh("v5p:4x4x4", config=named) == mesh("v5e:16x16")
  assert mesh("h100:8", config="emma_4b.py") == mesh("h100:8")
  for config in ("tiny", "tiny:token_fusion", "reference"):
    assert mesh("h100:8", config=config)["fsdp"] == 1


@pytest.mark.parametrize(
  "arguments, machine",
  [
    (["--config", "emma_4b:stage1,v5e-256"], ("v5e:16x16", 1)),
    (["--config", "emma_4b:2xv6e-256"], ("v6e:16x16", 2)),
    (["--config", "emma_4b:v5e-256", "--topology", "h100:8"], ("h100:8", 1)),
  ],
)
def test_a_machine_that_the_config_names_is_planned_for(arguments, machine):
  args = plan._parser().parse_args(arguments)
  plan._find_machine(args)
  assert (args.topology, args.slices) == machine


def test_a_machine_that_nobody_names_is_asked_for(capsys):
  assert plan.main(["--config", "emma_4b:stage1"]) == 2
  said = capsys.readouterr().err
  assert "--topology is missing" in said and "emma_4b:stage1,v5e-256" in said


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
