"""EMMA-4B through the paper's six stages, from published weights.

  python -m emma_jax.cli.convert init --config configs/emma_4b.py \\
      --qwen3 weights/Qwen3-4B --siglip2 weights/siglip2-so400m-patch16-512 \\
      --dcae weights/dc-ae-f32c32-sana-1.1-diffusers --out runs/emma_4b_init
  python -m emma_jax.cli.train --config configs/emma_4b.py \\
      --workdir runs/emma_4b [--config.data.sources.KEY=jsonl:PATH ...]

Nothing is random but what is new in EMMA, and that is in the first file. Steps,
rates, schedules and ratios are the paper's (Table 2), for 1,024 samples a step.
"""

import ml_collections

from configs import defaults, models, stages

# Pictures of 512 pixels are 256 tokens. A row holds four samples of any task.
_ROW = dict(rows=256, und_tokens=2048, und_pictures=4)
_TEXT = dict(_ROW, references=0, targets=0)
_ALL = dict(_ROW, references=4, targets=4)


def get_config() -> ml_collections.ConfigDict:
  c = defaults.get_config()
  c.name = "emma_4b"
  c.model = models.emma_4b()
  c.initial = "runs/emma_4b_init"  # what `convert init` wrote
  c.data.update(dict(
      tokenizer="qwen3:weights/Qwen3-4B", height=512, width=512,
      min_tokens=256, max_tokens=4096))
  c.data.sources = {
      name: f"jsonl:data/{name}.jsonl"
      for name in ("understanding", "stem", "drawing", "editing")}
  c.train.save_every = 1000
  c.train.evaluate = False
  policy = stages.policies(experts=True)
  c.stages = ml_collections.ConfigDict({
      name: stages.stage(
          name, policy=policy[name],
          load=(((".*", "weights:{initial}"),) if name == "0_alignment"
                else stages.KEEP_AND_COPY if name == "4a_expert"
                else stages.KEEP),
          **(_ALL if name[0] in "123" else _TEXT))
      for name in stages.NAMES})
  return c
