"""What the engine made of what was asked for, and the model's own forward, which TRL wraps for each trainer."""

from typing import Any

from toolkit.run_folder import Run


def note_what_is_used(run: Run, stage: str, arguments: Any) -> None:
    """Keep in run.json what the engine made of the optimizer and the precision that were asked for."""
    optimizer = getattr(arguments.optim, "value", str(arguments.optim))
    mixed = "bf16" if arguments.bf16 else "fp16" if arguments.fp16 else None
    stages = run.info.get("stages", {})
    run.update_info(stages=stages | {stage: {"optimizer": optimizer, "mixed_precision": mixed}})


def forward_of(model: Any) -> Any:
    """The base's own forward, where one is set on the instance. TRL wraps it anew for each trainer that is made."""
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    return base.__dict__.get("forward")


def restore_forward(model: Any, forward: Any) -> None:
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    base.__dict__.pop("forward", None)
    if forward is not None:
        base.forward = forward
