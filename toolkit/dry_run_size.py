"""What a dry run says of a model's size: parameters, memory and disk, from its shape alone."""

from rich.console import Console

from toolkit.metrics.information import Shape, head_parameters, lora_parameters, parameters, projection_sizes
from toolkit.recipe import Recipe

WEIGHT_BYTES = {"bf16": 2.0, "fp16": 2.0, "fp32": 4.0, "nf4": 0.55, "fp8": 1.0}
"""Bytes a weight of a projection; nf4 with double quantisation needs about 4.4 bits."""
OPTIMIZER_BYTES = {"adamw_8bit": 2, "paged_adamw_8bit": 2, "adamw": 8, "sgd": 0}
"""Bytes of optimizer state a trained weight."""


def show_size(console: Console, recipe: Recipe, shape: Shape | None, classes: int, longest: int) -> None:
    if shape is None:
        what = "the base" if recipe.model.base else "the tokenizer"
        console.print(f"not known: {what} is not on this machine{', or no Qwen3' if recipe.model.base else ''}")
        return
    total = parameters(shape)
    trained = lora_parameters(shape, recipe.lora.rank, recipe.lora.targets) if recipe.lora else total
    head = head_parameters(shape.hidden, recipe.model.head.layers, classes) if recipe.model.head else 0
    trained += head
    of_head = f", {head:,} of them in the head; {total:,}" if head else f" of {total:,}"
    console.print(f"{trained:,} trainable parameters{of_head} in the {'base' if recipe.lora else 'model'}")
    memory = estimate_memory(shape, recipe, trained, longest)
    parts = ", ".join(f"{part} {size / 2**30:.2f}" for part, size in memory.items())
    console.print(f"memory about {sum(memory.values()) / 2**30:.1f} GiB, an estimate: {parts}")
    kept = 1 + sum((s.epochs if s.keep == "epochs" else s.keep == "best") for s in recipe.stage.values())
    saved = trained * 4
    working = 2 * (saved + trained * OPTIMIZER_BYTES[next(iter(recipe.stage.values())).optimizer]) + saved
    console.print(
        f"disk about {saved * kept / 2**20:.0f} MiB a run when finished, {(saved * kept + working) / 2**20:.0f} MiB"
        " while it runs"
    )


def estimate_memory(shape: Shape, recipe: Recipe, trained: int, longest: int) -> dict[str, float]:
    """Bytes by purpose, roughly: weights and optimizer are counted, activations are a rule of thumb.

    longest: tokens of the longest row. Of training and of readings, which take turns, that one which needs more.
    """
    # Weights that are trained stay in float32.
    bytes_each = WEIGHT_BYTES[recipe.model.precision] if recipe.lora else 4.0
    projections = shape.layers * sum(a * b for a, b in projection_sizes(shape).values())
    dense = max(2.0, bytes_each)
    weights = projections * bytes_each + (parameters(shape) - projections) * dense
    stage = max(recipe.stage.values(), key=lambda s: s.batch_size)
    whole = recipe.model.max_length
    row = min(whole, max(64, longest)) if longest else whole
    lengths = {"pretrain": stage.block, "classify": whole, "sft": whole if stage.packing else row}
    tokens = stage.batch_size * lengths.get(stage.method, row)
    layers = 1 if recipe.model.gradient_checkpointing else shape.layers
    training = {
        # About 34 bytes a token, layer and hidden unit in 16 bits (Korthikanti 2022), twice that in 32.
        "activations": tokens * layers * shape.hidden * 17 * dense,
        "logits": 0.0 if recipe.model.head else tokens * shape.vocabulary * 8.0,
    }
    # Generating a short answer: keys and values of 512 places, which Unsloth makes room for, and logits in two copies.
    cache = shape.layers * shape.kv_heads * shape.head_size * 2 * dense * 512
    said = row if row > 64 else 20
    held = recipe.recall.batch_size * (cache + shape.vocabulary * 8.0 * said)
    if recipe.repetition:
        # Free texts keep no logits but the last token's; the reference answers are read whole.
        cache *= max(1, (row + recipe.repetition.max_new_tokens) / 512)
        held = max(held, recipe.repetition.batch_size * (cache + shape.vocabulary * 8.0 * said))
    if recipe.forgetting and recipe.forgetting.tasks:
        # lm-eval takes the logits of whole prompts; 13 bytes each were measured.
        how = recipe.forgetting
        at_once = 2 if how.noise_floor and how.batch_size == 1 else how.batch_size
        held = max(held, at_once * recipe.model.max_length * shape.vocabulary * 13.3)
    readings = {"readings": held}
    return {
        "weights": weights,
        "gradients and optimizer": trained * (4 + OPTIMIZER_BYTES[stage.optimizer] + (4 if recipe.lora else 0)),
        **(readings if (recipe.forgetting or not recipe.classifies) and held > sum(training.values()) else training),
    }
