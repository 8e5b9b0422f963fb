"""What a dry run says of the data and of each stage: examples, tokens, updates and exposures."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

from rich.console import Console
from rich.text import Text

from toolkit.example import Example, main_part
from toolkit.metrics.information import rule_only_nats
from toolkit.recipe import Recipe, Stage
from toolkit.rendering import IGNORED
from toolkit.studies.built import Built
from toolkit.training.rows import uneven_last_update, updates_an_epoch

SHOWN_EXAMPLES = 3
SPLITS = ("train", "validation", "test")
MOST_CLASSES = 30
SHOWN_CHARACTERS = 600


def show_classes(console: Console, built: Built, labels: tuple[str, ...]) -> None:
    """Texts by split and class, what is to be said of them, and the first prompts."""
    by_split = {split: Counter(e.answer for e in built.examples if e.split == split) for split in SPLITS}
    counts = ", ".join(f"{sizes.total():,} {split}" for split, sizes in by_split.items())
    console.print(f"{counts} texts; {len(labels)} classes, in this order:")
    for label in labels[:MOST_CLASSES]:
        sizes = "  ".join(f"{sizes[label]:>7,} {split}" for split, sizes in by_split.items())
        console.print(f"  {sizes}  {label}")
    if len(labels) > MOST_CLASSES:
        console.print(f"  … and {len(labels) - MOST_CLASSES:,} more")
    for note in built.notes:
        console.print(note, style="yellow")
    console.print("the first prompts:")
    for example in built.examples[:SHOWN_EXAMPLES]:
        console.print(f"  {example.prompt} → {example.answer}")


def show_data(console: Console, built: Built) -> None:
    if built.labels:
        show_classes(console, built, built.labels)
        return
    trained = [example for example in built.examples if example.split == "train"]
    controls = sum(example.split == "control" for example in built.examples)
    held_out = sum(example.split == "validation" for example in built.examples)
    others = [f"{held_out} held out to choose the best weights by"] if held_out else []
    others += [f"{controls} controls of the same kind that are never trained"] if controls or not held_out else []
    console.print(f"{len(trained)} trained examples, {', '.join(others)}")
    for note in built.notes:
        console.print(note, style="yellow")
    parts = Counter(example.part for example in trained)
    for part, count in parts.items():
        if len(parts) > 1:
            console.print(f"{part}: {count}")
        for example in [e for e in trained if e.part == part][: SHOWN_EXAMPLES if len(parts) == 1 else 2]:
            console.print(f"  {shortened(spoken(example))}")
    asked = {example.variant: example for example in reversed(built.examples) if example.split == "test"}
    if asked:
        console.print("asked before and after training, never trained:")
        for variant, example in sorted(asked.items()):
            console.print(f"  {example.prompt}{example.answer}  ({variant})")
    if built.entropy_bits is None or built.rule_only_bits is None:
        return
    total = built.entropy_bits * parts[main_part(list(parts))]
    console.print(f"entropy {built.entropy_bits:.4f} bits an answer, {total:.1f} bits in all")
    if built.answer_digits:
        floor = rule_only_nats(built.rule_only_bits, built.answer_digits)
        right = f", {built.rule_only_digits:.1%} of digits right" if built.rule_only_digits is not None else ""
        console.print(f"the rule known and no answer: loss {floor:.4f} nats a digit{right}")


def spoken(example: Example) -> str:
    """Prompt and answer as they are; of a conversation all turns, each with who says it."""
    if not example.messages:
        return f"{example.prompt}{example.answer}"
    turns = [(turn["role"], turn["content"]) for turn in example.messages]
    turns += [("user", example.prompt), ("assistant", example.answer)]
    return "\n".join(f"{role}: {content}" for role, content in turns)


def shortened(text: str) -> str:
    """On one line, and cut in its middle where it is long."""
    text = text.replace("\n", "⏎")
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[: SHOWN_CHARACTERS - 100]} … {text[-100:]}"


def show_tokens(console: Console, name: str, rows: list[dict[str, Any]], tokenizer: Any) -> None:
    """Rows of a stage as the model will see them; of a pair the chosen answer, and the rejected one."""
    paired, headed = bool(rows) and "chosen_ids" in rows[0], bool(rows) and "class" in rows[0]
    if headed:
        rows = [
            {"said": f"class {row['class']}, read at the last token", "labels": [IGNORED] * len(row["input_ids"])} | row
            for row in rows
        ]
    for row in [half for pair in rows for half in halves(pair)] if paired else rows:
        trained = sum(label != IGNORED for label in row["labels"])
        counted = f"{len(row['labels'])} tokens" if headed else f"{trained} of {len(row['labels'])} trained"
        line = Text(f"{row.get('said', name)}, {counted}: ")
        for token, label in zip(row["input_ids"], row["labels"], strict=True):
            shown = tokenizer.decode([token]).replace("\n", "⏎").replace(" ", "␣")
            if label == IGNORED:
                line.append(f"{shown}|", style="dim")
            else:
                line.append(f"{shown}|" if console.color_system else f"[{shown}]", style="green underline")
        console.print(line, soft_wrap=True)


def halves(pair: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The two sequences of a pair, as rows."""
    prompt = pair["prompt_ids"]
    for which in ("chosen", "rejected"):
        answer = pair[f"{which}_ids"]
        yield {"said": which, "input_ids": prompt + answer, "labels": [IGNORED] * len(prompt) + answer}


def show_class_stage(console: Console, recipe: Recipe, name: str) -> None:
    stage, how, head = recipe.stage[name], recipe.classification, recipe.model.head
    assert how is not None
    layers = "a linear head" if head and not head.layers else f"a head of {head.layers} units" if head else "in words"
    last = f"the weights of the best {how.best_by}" if stage.keep == "best" else "the last weights"
    early = f", earlier after {how.patience} readings that are no better" if how.patience else ""
    read = "at the end" if how.every == "stage" else f"every {how.every}"
    console.print(f"  {layers}; validation read {read}{early}; {last} are tested, once")


def show_schedule(console: Console, recipe: Recipe, name: str) -> None:
    """What is known of a stage whose rows are not: epochs, what an update takes, and the learning rate."""
    stage = recipe.stage[name]
    what = f"all texts in blocks of {stage.block} tokens" if stage.method == "pretrain" else "all examples"
    if stage.packing:
        what = f"all examples, packed into rows of at most {recipe.model.max_length} tokens"
    console.print(f"{name}: {stage.epochs} epochs of {what}, {stage.batch_size} × {stage.grad_accum} rows an update")
    show_rate(console, stage)


def show_rate(console: Console, stage: Stage, before: str = "") -> None:
    console.print(
        f"  {before}peak learning rate {stage.learning_rate:g}, {stage.schedule}"
        f"{f', warm-up {stage.warmup:.0%}' if stage.warmup else ''}"
    )


def show_stage(
    console: Console, recipe: Recipe, built: Built, name: str, rendered: list[dict[str, Any]] | None
) -> int | None:
    """Updates, exposures and the last batch of one stage; returns its updates where they are known.

    rendered: its rows, where there are any; without, one an example is expected.
    """
    stage = recipe.stage[name]
    if rendered is None and (stage.method == "pretrain" or stage.packing):
        show_schedule(console, recipe, name)
        return None
    examples = sum(e.split == "train" and e.part in stage.train_on for e in built.examples)
    rows = examples if rendered is None else len(rendered)
    an_epoch = updates_an_epoch(rows, stage)
    each = f"{rows} {'pairs' if stage.method == 'dpo' else 'rows'}, {stage.batch_size} × {stage.grad_accum} an update"
    if stage.method == "exam":
        each = f"exam, {stage.review}, {stage.epochs} rounds of at most {each}"
        if stage.yoked_to:
            each += f"; as many as {stage.yoked_to} fed"
        console.print(f"{name}: {each}: at most {an_epoch} updates a round, {an_epoch * stage.epochs} in all")
    else:
        console.print(f"{name}: {each}: {an_epoch} updates an epoch, {an_epoch * stage.epochs} in all")
    at_most = "at most " if stage.method == "exam" else ""
    what = "text" if stage.method == "classify" else "fact"
    show_rate(console, stage, f"{at_most}{stage.epochs} exposures a {what}; ")
    if stage.packing and rendered:
        filled = sum(len(row["input_ids"]) for row in rendered) / (len(rendered) * recipe.model.max_length)
        console.print(f"  packed: {examples} examples in {rows} rows of {recipe.model.max_length}, {filled:.0%} full")
    if stage.method == "dpo":
        weighted = f", and {stage.sft_weight:g} of the loss of the right answer" if stage.sft_weight else ""
        console.print(f"  rejected: {stage.rejected}; beta {stage.beta:g}{weighted}")
    if stage.method == "classify":
        show_class_stage(console, recipe, name)
    if warning := uneven_last_update(rows, stage):
        console.print(f"  {warning}", style="yellow")
    return an_epoch * stage.epochs
