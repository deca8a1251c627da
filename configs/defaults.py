"""Every key of a run, with its meaning; other configs change some of them.

Sizes are in models.py, the paper's stages (Table 2) in stages.py. [P] marks
what the paper records, [D] our default where it is silent. Any key can be set
on the command line: `--config.data.seed=3`.
"""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
  """All sections but `model` and `stages`, which every config chooses."""
  c = ml_collections.ConfigDict()
  c.name = "emma"

  c.data = ml_collections.ConfigDict(
    dict(
      seed=0,  # of shuffling, dropout and packing
      tokenizer="tiny",  # the embedded world's; or "qwen3:FOLDER"
      # Picture sides in pixels: multiples of 32. Pictures in questions are
      # resized to fit and padded with white; none is distorted.
      height=96,
      width=96,
      # Pictures to draw and to edit: "cover" resizes them to cover the size,
      # and crops the rest, centred [D PixArt's, SANA's]; "pad" pads them, by
      # whole tokens that no loss counts. ("pad_learned": as before there was a
      # choice, with white bars that are learned; for runs begun then.)
      fit="cover",
      max_crop=0.5,  # a picture that would lose more of its area is left out
      # (height, width) of the pictures of a batch, the nearest by aspect ratio:
      # at most 8, of the table in aspect_buckets.py or others (planned only);
      # (): height x width.
      buckets=(),
      # True: keep a picture's own size, when sampling, and for understanding
      # in the stages with und_patches.
      native=False,
      min_tokens=1,  # of a picture at native size [D 256 at full size]
      max_tokens=64,  # [D 4096 at full size]
      codec="pillow",  # "fast": twice as fast, extra `fast`, another hash
      max_pixels=64_000_000,  # larger files are refused as bombs
      # The autoencoder's latents: made in the "step", or "stored" beside the
      # records by `emma-data encode-latents`, which native sizes need.
      latents="step",
      max_turns=0,  # question-answer pairs kept of a conversation; 0: all
      text_dropout=0.1,  # [D] prompt left out, for guidance
      reference_dropout=0.1,  # [D] reference left out, for guidance
      max_bad_share=0.01,  # more broken records than this end the run
      # ... once so many records were seen. So many pictures without both STEM
      # and general ones among them end a stage that trains the router.
      min_samples=1000,
      # A batch is packed in so many groups of rows; a host reads the groups of
      # its own rows. 1: each host reads all, which only a few hosts can afford.
      packing_groups=1,
      plan_segment=1000,  # batches planned at a time, where they are planned
      workers=0,  # data processes; 0 reads in threads
      threads=1,
      prefetch_batches=4,  # batches read ahead
      # name -> world:TASK:SPLIT, jsonl:PATH or records:DIR
      sources=dict(
        understanding="world:understanding:train",
        understanding_general="world:understanding_general:train",
        stem="world:stem:train",
        drawing="world:drawing:train",
        editing="world:editing:train",
      ),
    )
  )

  c.train = ml_collections.ConfigDict(
    dict(
      seed=0,  # of initialisation, flow times and noise
      log_every=20,  # steps
      save_every=200,  # steps
      keep=2,  # newest checkpoints kept
      keep_every=0,  # also keep multiples of this step; 0: none
      max_failed_saves=3,  # in a row (a full disk); with the last the run ends
      evaluate=True,  # score after every stage, and write the report
      # Of what a stage does not train and every use rounds to this dtype; the
      # rest stays in float32. Either float32 or model.dtype.
      frozen_dtype="float32",
      loss_chunk=4096,  # tokens of a device whose logits are held at a time
      # Steps between measures of each task's gradient, which cost as much as
      # three steps, and a program to compile; 0: never. So 0.6% of the time,
      # and four measures in the longest stages of the demo.
      gradient_shares_every=500,
      # A step whose loss or gradient is not finite is never applied. "stop"
      # ends the run, "skip" leaves its batch out: so many in a row at most.
      on_nonfinite="stop",
      max_skipped_steps=3,
      # Of a loss that lies far above those of the steps before: so many
      # deviations above the median of so many. "count" shows it; "rewind" goes
      # back to the last save before it, and leaves out the batches since then:
      # so often in a stage at most.
      on_spike="count",
      spike_window=128,
      spike_threshold=10.0,
      max_rewinds=3,
      # A look at a run before a stage ends: every so many steps of the stage,
      # and at its end; 0: never. Losses of held-out records, by task and by bin
      # of time, of live and of averaged weights ...
      validate_every=0,
      validate_samples=256,  # of a stage, as many of each of its sources
      # Source -> spec of its held-out records. Without: of the world
      # evaluate.split, of files what evaluate.sources has by the source's name.
      validate_sources=ml_collections.ConfigDict(),
      # ... and the same few drawings, edits and answers again.
      sample_every=0,
      sample_count=4,  # of each task, the first held-out records
      sample_tokens=64,  # of an answer, at most
      sample_prompts=(),  # drawn in place of the held-out records' prompts
      writers=(),  # beside TensorBoard: "wandb", "mlflow", where installed
    )
  )

  # Devices along each axis of the mesh; -1: all that are left. See sharding.py.
  c.mesh = ml_collections.ConfigDict(
    dict(
      slice=1,  # pods joined by the data-centre network
      data=-1,  # copies of the weights
      fsdp=1,  # weights are split
      tensor=1,  # heads and hidden units are split
    )
  )

  c.optimizer = ml_collections.ConfigDict(
    dict(
      b1=0.9,  # [P]
      b2=0.999,  # [P]
      eps=1e-8,  # [P]
      weight_decay=0.0,  # [D]
      clip_norm=1.0,  # [D] over the trained part only
    )
  )

  c.sample = ml_collections.ConfigDict(
    dict(
      steps=50,  # [D] Euler steps = model evaluations
      shift=3.0,  # [D] of the times, towards noise
      text_guidance=4.0,  # [D] drawing
      edit_text_guidance=4.0,  # [D] editing, instruction
      edit_image_guidance=1.5,  # [D] editing, reference
      # Of an answer: longer ones are cut. Descriptions of documents and charts
      # in LLaVA-OneVision and FineVision take a few hundred.
      max_tokens=1024,
      # Tokens of a request: pictures, all questions, a picture to be drawn, and
      # an answer. Longer ones are refused [D Qwen3's own context].
      max_context=32_768,
      averaged=True,  # use the EMA weights
    )
  )

  c.evaluate = ml_collections.ConfigDict(
    dict(
      samples=128,  # per task at the end of the run
      stage_samples=32,  # per task after each stage before the last
      held_out_samples=64,  # per held-out set
      batch=32,
      seed=0,
      steps=0,  # Euler steps when scoring; 0: sample.steps, as it is used
      split="test",
      tasks=("understanding", "drawing", "editing"),
      held_out=True,  # the world's held-out sets
      ceiling=True,  # what the autoencoder alone would score
      reference=False,  # score the shipped model on the same samples
      sources=ml_collections.ConfigDict(),  # held-out files: task -> jsonl:PATH
      # Published test sets, scored during a run: on `limit` items each, every
      # so many steps and after each stage. See configs/benchmarks.
      benchmarks=ml_collections.ConfigDict(
        dict(
          config="",  # name of a config, "benchmarks/paper"; "": none
          sets="",  # of it, with commas between; "": all enabled
          limit=50,
          every=0,  # steps; 0: after stages alone
          data="",  # folder of the test sets; "": the config's
        )
      ),
      # The router on labelled pictures that no stage trains on, after its own
      # stage, whether or not train.evaluate.
      router=ml_collections.ConfigDict(
        dict(
          samples=256,  # records, as many of each source; 0: not measured
          sources=(),  # specs; (): the world's `split` of the stage's sources
        )
      ),
    )
  )
  return c
