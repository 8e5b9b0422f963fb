"""One run from its folder to its final weights: what is written around the training itself."""

import hashlib
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from rich.console import Console
from safetensors import SafetensorError

from toolkit import processes
from toolkit.errors import MachineError, UserError
from toolkit.example import Example, main_part, to_json, to_jsonl
from toolkit.models.base import base_digest
from toolkit.recipe import Recipe, to_toml
from toolkit.run_folder import Run, remove_folder, write_whole
from toolkit.seeds import sub_seed
from toolkit.studies.built import Built

if TYPE_CHECKING:
    from toolkit.models.loaded import Loaded
    from toolkit.probes.forgetting import Abilities
    from toolkit.tracking import Tracker
    from toolkit.training.rows import Rows


MOST_KEPT = 100_000
"""Examples of a run's own; of a corpus with more, what is only trained is not copied into every run's folder."""


@dataclass
class Planned:
    """One run that was asked for, checked, and not yet started."""

    run: Run
    recipe: Recipe
    seed: int
    built: Built
    base: Path | str | None
    tracked: dict[str, Any] | None = None
    """What W&B has of an earlier run that this one starts over."""

    @property
    def label(self) -> str:
        return self.run.label

    @cached_property
    def digest(self) -> str:
        """Of the examples that the recipe builds, before a tokenizer finds some of them too long."""
        whole = hashlib.sha256()
        for example in self.built.examples:
            whole.update(f"{to_json(example)}\n".encode())
        return whole.hexdigest()

    def leave_out(self, tokenizer: Any) -> None:
        """Leave out what has too many tokens, where the recipe says so, and pairs that processes cannot share."""
        from toolkit.training.lengths import without_long
        from toolkit.training.shares import without_uneven_pairs

        # Taken now: what is built is what is compared when the run goes on.
        _ = self.digest
        self.built = without_uneven_pairs(self.recipe, without_long(tokenizer, self.recipe, self.built))


def load(plan: Planned, engine: ModuleType) -> "Loaded":
    """The base of a run; a new model is built from the seed in a temporary folder and loaded like any other."""
    import tempfile

    from toolkit.models import from_scratch
    from toolkit.models.opening import load_base

    model = plan.recipe.model
    if model.shape is None:
        assert plan.base is not None
        return load_base(engine, plan.base, model, full=plan.recipe.lora is None)
    tokenizer = from_scratch.tokenizer_of(model, plan.built.examples)
    rows = from_scratch.rows_for(model, tokenizer)
    with tempfile.TemporaryDirectory() as folder:
        from_scratch.build(model.shape, tokenizer, rows, Path(folder), sub_seed(plan.seed, "weights"))
        loaded = engine.load_base(Path(folder), model, full=True)
        loaded.described["tokenizer"] = from_scratch.describe_tokenizer(model, Path(folder))
    loaded.described["loaded_from"] = "random weights"
    return loaded


def run_one(
    plan: Planned,
    rows: dict[str, "Rows"],
    engine: ModuleType,
    loaded: "Loaded",
    console: Console,
    stop_asked: Callable[[], bool],
    abilities: "Abilities | None" = None,
) -> bool:
    """One run, from its folder to its final weights; False where the user stopped it.

    abilities: what forgetting is measured by, where the recipe asks for it.
    """
    from toolkit import tracking
    from toolkit.models.classifier import add_classes
    from toolkit.models.loaded import remove_adapter
    from toolkit.models.reference import Reference, reference_of
    from toolkit.training.machine import reset_peak_memory
    from toolkit.training.progress import RunProgress
    from toolkit.training.readings import Training
    from toolkit.training.repetition import notes_of_prompts
    from toolkit.training.rows import classes_of, uneven_last_update, updates_an_epoch
    from toolkit.training.saved import resume_step
    from toolkit.training.train import train

    run, recipe = plan.run, plan.recipe
    started = time.time()
    reset_peak_memory()
    if recipe.lora:
        engine.add_lora(loaded, recipe.lora, recipe.model, sub_seed(plan.seed, "lora"))
    if recipe.classifies:
        add_classes(loaded, classes_of(recipe, plan.built), sub_seed(plan.seed, "head"))
    # Now the weights are still the base's.
    reference = (reference_of(loaded) if abilities.texts else Reference(None)) if abilities else None
    open_folder(plan, loaded, engine)
    updates = {name: updates_an_epoch(len(rows[name]), stage) * stage.epochs for name, stage in recipe.stage.items()}
    step = resume_step(run, recipe)
    run.keep_rows_until(step)
    if run.info["resumed"]:
        say(run, console, f"{run.label} goes on at step {step}")
    settings = recipe.model_dump(exclude_none=True) | {"seed": plan.seed}
    if plan.tracked:
        run.update_info(wandb=plan.tracked)
    # Rows are sent once: by the first process.
    wandb = recipe.wandb if processes.is_first() else recipe.wandb.model_copy(update={"mode": "disabled"})
    tracker = tracking.start(run, settings, wandb, lambda text: say(run, console, text))
    run.update_info(wandb=tracker.described)
    for note in (*plan.built.notes, *notes_of_prompts(plan.recipe, plan.built, plan.seed)):
        say(run, console, f"{run.label}: {note}")
    for name, stage in recipe.stage.items():
        if warning := uneven_last_update(len(rows[name]), stage):
            say(run, console, f"{run.label}, {name}: {warning}")
    epochs = sum(stage.epochs for stage in recipe.stage.values())
    finished = False
    try:
        with RunProgress(console, plan.label, sum(updates.values()), epochs) as progress:
            training = Training(run, recipe, plan.seed, plan.built, engine, loaded, progress, tracker.log, stop_asked)
            training.abilities, training.reference = abilities, reference
            finished = train(training, rows)
    except MemoryError as error:
        raise out_of_memory(run) from error
    except RuntimeError as error:
        if "out of memory" in str(error):
            raise out_of_memory(run) from error
        if "PytorchStreamWriter" not in str(error):
            raise
        raise stopped_by(run, error) from error
    except (OSError, SafetensorError) as error:
        raise stopped_by(run, error) from error
    finally:
        if not finished:
            # What failed here, the others may know nothing of.
            with processes.alone():
                run.update_info(seconds=round(run.info["seconds"] + time.time() - started, 1))
            tracker.finish(None, None, None, ok=False)
    if finished:
        close_run(plan, started, tracker)
    if recipe.lora:
        remove_adapter(loaded)
    return finished


def stopped_by(run: Run, error: Exception) -> MachineError:
    return MachineError(f"{run.label}: {error}. What was saved is kept; the same command goes on from there.")


def out_of_memory(run: Run) -> MachineError:
    return MachineError(
        f"{run.label} ran out of memory. What was saved is kept. A smaller batch_size (with a larger grad_accum),"
        ' gradient_checkpointing = true or precision = "nf4" need less; give the changed recipe another name.'
    )


def say(run: Run, console: Console, text: str) -> None:
    console.print(text, style="yellow", highlight=False, markup=False)
    run.log(text)


def open_folder(plan: Planned, loaded: "Loaded", engine: ModuleType) -> None:
    """What a run's folder says from its first moment on; run.json comes last and makes it a run."""
    from toolkit.training.machine import git_commit, machine, versions

    run, recipe, built = plan.run, plan.recipe, plan.built
    parts = Counter(example.part for example in built.examples if example.split == "train")
    splits = Counter(example.split for example in built.examples)
    resumed = run.exists
    refuse_other_tokenizer(run, loaded)
    weights = [*loaded.model.parameters(), *(loaded.head.parameters() if loaded.head is not None else ())]
    trainable = sum(p.numel() for p in weights if p.requires_grad)
    kept = kept_examples(plan)
    if not resumed:
        write_whole(run.path / "recipe.toml", to_toml(recipe))
        write_whole(run.path / "examples.jsonl", to_jsonl(kept))
    template = loaded.tokenizer.chat_template if recipe.model.format == "chat" else None
    now = time.strftime("%Y-%m-%dT%H:%M:%S%z")
    info = run.info if resumed else {}
    process = {"started": now, "git_commit": git_commit(), "machine": machine(), "versions": versions()}
    process["versions"][recipe.model.engine] = engine.VERSION
    if not resumed:
        # Of a run whose run.json is gone: it could be of another recipe.
        remove_folder(run.state_folder)
    run.update_info(
        name=recipe.name,
        seed=plan.seed,
        study=recipe.study,
        state="running",
        finished=None,
        seconds=info.get("seconds", 0.0),
        **({} if resumed else process),
        resumed=[*info.get("resumed", []), process] if resumed else [],
        **({"processes": {"count": processes.count()}} if processes.count() > 1 else {}),
        model=loaded.described
        | {"trainable_parameters": trainable}
        | ({"base_digest": base_digest(plan.base)} if isinstance(plan.base, Path) else {})
        | ({"template": hashlib.sha256(template.encode()).hexdigest()} if template else {}),
        data={
            "digest": plan.digest,
            "trained": parts[main_part(list(parts))],
            "parts": dict(parts),
            "controls": sum(example.split == "control" for example in built.examples),
            **({"kept": len(kept)} if len(built.examples) > MOST_KEPT else {}),
            "entropy_bits": built.entropy_bits,
            "rule_only_bits": built.rule_only_bits,
            "rule_only_digits": built.rule_only_digits,
            "answer_digits": built.answer_digits,
            "prompt_choices": built.prompt_choices,
            **({"labels": list(built.labels), "splits": dict(splits)} if built.labels else {}),
        },
    )
    run.log(f"{now} {'resumed' if resumed else 'started'} {run.label}")


def kept_examples(plan: Planned) -> list[Example]:
    """What examples.jsonl holds: all of them, or of a large corpus those that readings ask; the rest are its source's,
    by the recipe and the digest."""
    from toolkit.training.readings import read_examples
    from toolkit.training.repetition import drawn

    built, sample = plan.built, plan.recipe.recall.sample
    if len(built.examples) <= MOST_KEPT:
        return built.examples
    asked = {example.id for example in read_examples(built, sample or MOST_KEPT, plan.seed, everything=True)}
    asked |= {prompt.example.id for prompt in drawn(plan.recipe, built, plan.seed)}
    return [example for example in built.examples if example.id in asked]


def refuse_other_tokenizer(run: Run, loaded: "Loaded") -> None:
    """Raises UserError where a run's own tokenizer, trained on its texts, came out otherwise than when it began."""
    before = (run.info.get("model", {}).get("tokenizer") or {}).get("digest") if run.exists else None
    now = (loaded.described.get("tokenizer") or {}).get("digest")
    if len(set(processes.gather(now))) > 1:
        raise UserError(f"{run.label}: the processes trained tokenizers that differ: are their libraries the same?")
    if before is not None and before != now:
        raise UserError(
            f"{run.label} cannot go on: its tokenizer is another one than it began with (its files, or a library that"
            " trains one, have changed). Start it over with --fresh."
        )


def close_run(plan: Planned, started: float, tracker: "Tracker") -> None:
    from toolkit.probes.classification_report import write_test_results
    from toolkit.training.forgetting import keep_forgetting
    from toolkit.training.machine import peak_memory_gb

    run = plan.run
    info = run.info
    final, trained = run.final, run.rows("train")
    # An exam in which nothing was missed trains nothing.
    if final["step"] != (trained[-1]["step"] if trained else 0):
        raise RuntimeError(f"{run.label}: its last reading is of step {final['step']}, and not of its last update.")
    if plan.recipe.classifies:
        write_test_results(run, final)
    if plan.recipe.forgetting:
        keep_forgetting(run)
    tracker.finish(
        final, run.readings("test" if run.classifies else "recall")[-1], run.path / "examples.jsonl", ok=True
    )
    run.update_info(
        state="complete",
        finished=time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        seconds=round(info["seconds"] + time.time() - started, 1),
        peak_memory_gb=max(peak_memory_gb(), info.get("peak_memory_gb", 0.0)),
        wandb=tracker.described,
    )
    remove_folder(run.state_folder)
    if plan.recipe.classifies:
        run.log(f"finished; test accuracy {final['test/accuracy']:.4f}, macro F1 {final['test/macro_f1']:.4f}")
    else:
        run.log(f"finished; recall {final['recall/exact']:.3f}, digits {final['loss/digit_nats']:.4f} nats")
