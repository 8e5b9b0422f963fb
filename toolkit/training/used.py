"""What the engine made of what was asked for, and the model's own forward, which TRL wraps for each trainer."""

from typing import Any

from toolkit import processes
from toolkit.recipe import Stage
from toolkit.run_folder import Run


def note_what_is_used(run: Run, name: str, stage: Stage, trainer: Any) -> None:
    """Keep in run.json what the engine made of what was asked for, by what is there as training begins.

    Raises RuntimeError where an update would not have the rows that the recipe says.
    """
    arguments = trainer.args
    share = {"batch_size": arguments.train_batch_size, "grad_accum": arguments.gradient_accumulation_steps}
    count = arguments.world_size
    if count != processes.count() or share["batch_size"] * share["grad_accum"] * count != rows_of(stage):
        raise RuntimeError(f"{count} processes of {share} do not make the {rows_of(stage)} rows an update of {name}.")
    used: dict[str, Any] = {
        "optimizer": getattr(arguments.optim, "value", str(arguments.optim)),
        "weights": dtype_of(trainer.model_wrapped),
        "mixed_precision": "bf16" if arguments.bf16 else "fp16" if arguments.fp16 else None,
    }
    several = {"processes": {"count": count, "strategy": strategy_of(trainer), **share}} if count > 1 else {}
    run.update_info(stages=run.info.get("stages", {}) | {name: used}, **several)


def dtype_of(model: Any) -> str:
    """Of the weights that are trained, as they are when training begins: DeepSpeed may round them to 16 bits."""
    return ", ".join(sorted({str(w.dtype).removeprefix("torch.") for w in model.parameters() if w.requires_grad}))


def rows_of(stage: Stage) -> int:
    return stage.batch_size * stage.grad_accum


def strategy_of(trainer: Any) -> str:
    """How several processes share the work, read off what really trains: "ddp", "fsdp2", "fsdp1" or "zero-2" …"""
    wrapped, kinds = trainer.model_wrapped, [kind.__name__ for kind in type(trainer.model_wrapped).__mro__]
    if "DeepSpeedEngine" in kinds:
        return f"zero-{wrapped.zero_optimization_stage()}"
    if "FullyShardedDataParallel" in kinds:
        return "fsdp1"
    if "FSDPModule" in kinds or any("DTensor" in type(weight.data).__name__ for weight in wrapped.parameters()):
        return "fsdp2"
    if "DistributedDataParallel" in kinds:
        return "ddp"
    raise RuntimeError(f"{processes.count()} processes were started, and {kinds[0]} trains each for itself.")


def forward_of(model: Any) -> Any:
    """The base's own forward, where one is set on the instance. TRL wraps it anew for each trainer that is made."""
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    return base.__dict__.get("forward")


def restore_forward(model: Any, forward: Any) -> None:
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    base.__dict__.pop("forward", None)
    if forward is not None:
        base.forward = forward
