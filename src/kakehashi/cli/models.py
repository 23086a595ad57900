"""Commands that make and use runs: train, sample, translate, classify, eval, runs."""

import sys
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kakehashi.cli import console
from kakehashi.texts import t

if TYPE_CHECKING:
    from kakehashi.runs import Run

Root = Annotated[Path, typer.Option("--root", help=t("cli.option.root"))]
Device = Annotated[str, typer.Option(help=t("cli.option.device"))]
Seed = Annotated[int, typer.Option(help=t("cli.option.seed"))]
RunPath = Annotated[Path, typer.Argument(metavar="RUN", help=t("cli.option.run_path"))]
FEW = 100  # texts: what is validated on fewer is known roughly at best


class Split(StrEnum):
    """The part of a run's data to measure on."""

    val = "val"
    test = "test"
    unseen = "unseen"


def train(
    ctx: typer.Context,
    model: Annotated[str | None, typer.Option(help=t("cli.train.model"))] = None,
    task: Annotated[str | None, typer.Option(help=t("cli.train.task"))] = None,
    data: Annotated[str | None, typer.Option(help=t("cli.train.data"))] = None,
    text: Annotated[str | None, typer.Option(help=t("cli.train.text"))] = None,
    label: Annotated[str | None, typer.Option(help=t("cli.train.label"))] = None,
    preset: Annotated[str | None, typer.Option(help=t("cli.train.preset"))] = None,
    steps: Annotated[int | None, typer.Option(help=t("cli.train.steps"))] = None,
    batch_size: Annotated[int | None, typer.Option(help=t("cli.train.batch_size"))] = None,
    optimizer: Annotated[str | None, typer.Option(help=t("cli.train.optimizer"))] = None,
    lr: Annotated[float | None, typer.Option(help=t("cli.train.lr"))] = None,
    min_lr: Annotated[float | None, typer.Option(help=t("cli.train.min_lr"))] = None,
    schedule: Annotated[str | None, typer.Option(help=t("cli.train.schedule"))] = None,
    weight_decay: Annotated[float | None, typer.Option(help=t("cli.train.weight_decay"))] = None,
    accumulate: Annotated[int | None, typer.Option(help=t("cli.train.accumulate"))] = None,
    carry: Annotated[bool, typer.Option("--carry", help=t("cli.train.carry"))] = False,
    window: Annotated[int | None, typer.Option(help=t("cli.train.window"))] = None,
    checkpoint_every: Annotated[int | None, typer.Option(help=t("cli.train.checkpoint_every"))] = None,
    dtype: Annotated[str | None, typer.Option(help=t("cli.train.dtype"))] = None,
    engine: Annotated[str, typer.Option(help=t("cli.train.engine"))] = "torch",
    device: Device = "cpu",
    seed: Seed = 1337,
    unit: Annotated[str | None, typer.Option(help=t("cli.train.unit"))] = None,
    split: Annotated[str | None, typer.Option(help=t("cli.train.split"))] = None,
    encoding: Annotated[str | None, typer.Option(help=t("cli.train.encoding"))] = None,
    tokenizer: Annotated[Path | None, typer.Option(help=t("cli.train.tokenizer"))] = None,
    size: Annotated[int | None, typer.Option(help=t("cli.train.size"))] = None,
    shift: Annotated[int | None, typer.Option(help=t("cli.train.shift"))] = None,
    flip: Annotated[bool | None, typer.Option("--flip/--no-flip", help=t("cli.train.flip"))] = None,
    health: Annotated[bool, typer.Option("--health", help=t("cli.train.health"))] = False,
    baseline: Annotated[bool, typer.Option(help=t("cli.train.baseline"))] = True,
    run: Annotated[Path | None, typer.Option(help=t("cli.train.run"))] = None,
    from_run: Annotated[Path | None, typer.Option("--from", help=t("cli.train.from"))] = None,
    resume: Annotated[Path | None, typer.Option(help=t("cli.train.resume"))] = None,
    root: Root = Path("runs"),
) -> None:
    from kakehashi import training
    from kakehashi.cli import samples
    from kakehashi.cli.progress import Watched, duration
    from kakehashi.runs import Run
    from kakehashi.training.numpy_engine import threads as numpy_threads

    given = {
        "steps": steps,
        "batch_size": batch_size,
        "optimizer": optimizer,
        "lr": lr,
        "min_lr": min_lr,
        "schedule": schedule,
        "weight_decay": weight_decay,
        "accumulate": accumulate,
        "carry": carry,
        "checkpoint_every": checkpoint_every,
        "dtype": dtype,
    }
    if resume or from_run:  # what the run itself decides cannot be said again
        said = [name for name in ctx.params if str(ctx.get_parameter_source(name)).endswith("COMMANDLINE")]
        fixed = (
            ["model", "preset", "tokenizer"]
            if from_run
            else [name for name in said if name not in ("resume", "root", "baseline", "health")]
        )
        if again := [f"--{name.removesuffix('_run').replace('_', '-')}" for name in said if name in fixed]:
            raise typer.BadParameter(t("cli.train.fixed", options=", ".join(again), run=resume or from_run))
    if resume:
        made = Run.open(resume)
        if made.config.train.get("engine") == "numpy" and made.config.threads != (now := numpy_threads()):
            console.say(t("cli.train.threads", run=made.path, before=made.config.threads, now=now), "yellow")
        parts = training.open_split(made.config)
        warn_of_shared(parts)
        sources = training.open_sources(made.config, made.codec, parts)
    else:
        plan = training.plan(
            model or (None if task == "classify" or training.tasks.has_classes(data) else "gpt2"),
            data,
            task=task,
            text=text,
            label=label,
            preset=preset,
            engine=engine,
            seed=seed,
            encoding=encoding,
            unit=unit,
            split=split,
            window=window,
            tokenizer=tokenizer,
            size=size,
            shift=shift,
            flip=flip,
            from_run=from_run,
            device=device,
            **{name: value for name, value in given.items() if value is not None},
        )
        parts, sources = plan.split, plan.sources
        if plan.n_bytes >= 2**30:
            console.say(t("cli.train.large", n=plan.n_parameters, size=plan.n_bytes / 2**30), "yellow")
        warn_of_shared(parts)
        if plan.seen is None:
            console.say(t("cli.train.unknown", run=from_run), "yellow")
        elif plan.seen:
            console.say(t("cli.train.seen", share=plan.seen, run=from_run), "yellow")
        labels = plan.config.task == "label"
        if labels and len(parts.val) < FEW:
            console.say(t("cli.train.few", n=len(parts.val)), "yellow")
        for what, n in parts.said.items() if labels else ():
            if n:
                console.say(t(f"cli.train.rows.{what}", n=n), "yellow")
        if any(cut := [source.n_cut for source in sources]):
            key = "cli.train.cut_end" if labels else "cli.train.cut"
            console.say(t(key, window=plan.config.data.block_size, train=cut[0], val=cut[1]), "yellow")
        made = plan.create(root) if run is None else plan.create(run.parent, run.name)
        if plan.borrowed:
            console.say(t("cli.train.borrowed", symbols=", ".join(plan.borrowed)))
        name = from_run or model or plan.config.model.name
        console.say(t("cli.train.starting", run=made.path, model=name, data=plan.config.data.name))
    watched = Watched(resuming=resume is not None)
    callbacks: list[Any] = [watched]
    if health:
        from kakehashi.inspection import Health

        callbacks.append(Health(tell=lambda found: console.say(t(f"health.{found.what}", **found._asdict()), "red")))
    try:
        training.train(made.config, made, callbacks, sources=sources)
    finally:
        watched.close()
    made.write_samples(samples.page(made, parts, sources[1]))
    summary = made.summary()
    ends = {"val": summary["val_loss"], "right": summary.get("right"), "time": duration(summary["seconds"])}
    console.say(t(f"cli.train.done.{made.config.task}", **ends, run=made.path))
    if made.config.task == "label":
        from kakehashi.cli.predictor import judge
        from kakehashi.data import sets

        if sets.known(made.config.data.source):  # they have a test, which a person's file has not
            console.say(t("cli.train.test", run=made.path))
        summary["judged"] = judge(made, baseline)
    console.result({"run": str(made.path), **summary})


def warn_of_shared(split: Any) -> None:
    """Say where data are validated on that are trained on, too."""
    if split.shared:
        console.say(t("cli.train.shared", share=split.shared, split=split.name), "yellow")


def sample(
    run: RunPath,
    prompt: Annotated[str, typer.Option(help=t("cli.sample.prompt"))] = "",
    n: Annotated[int, typer.Option("-n", min=1, help=t("cli.sample.n"))] = 5,
    max_tokens: Annotated[int, typer.Option(help=t("cli.sample.max_tokens"))] = 200,
    temperature: Annotated[float, typer.Option(help=t("cli.sample.temperature"))] = 1.0,
    top_k: Annotated[int | None, typer.Option(help=t("cli.sample.top_k"))] = None,
    top_p: Annotated[float | None, typer.Option(help=t("cli.sample.top_p"))] = None,
    stop: Annotated[list[str] | None, typer.Option(help=t("cli.sample.stop"))] = None,
    seed: Seed = 0,
    device: Device = "cpu",
) -> None:
    from kakehashi.cli.samples import written
    from kakehashi.runs import Run

    completions = written(
        Run.open(run),
        device,
        [prompt] * n,
        max_tokens=max_tokens,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        stop=tuple(stop or ()),
        seed=seed,
    )
    for each in completions:
        console.say(prompt + each.text)
    console.result({"run": str(run), "prompt": prompt, "samples": [each.text for each in completions]})


def translate(
    run: RunPath,
    texts: Annotated[list[str] | None, typer.Argument(metavar="TEXT...", help=t("cli.translate.texts"))] = None,
    beam: Annotated[int, typer.Option(help=t("cli.translate.beam"))] = 4,
    length_penalty: Annotated[float, typer.Option(help=t("cli.translate.length_penalty"))] = 0.6,
    max_tokens: Annotated[int, typer.Option(help=t("cli.sample.max_tokens"))] = 200,
    device: Device = "cpu",
) -> None:
    from kakehashi.inference import translate
    from kakehashi.runs import Run

    opened = Run.open(run)
    opened.require("seq2seq")
    dials = {"beam": beam, "length_penalty": length_penalty, "max_tokens": max_tokens, "device": device}
    found = []
    with opened.learners_code():
        model = opened.load_model()
        for some in [texts] if texts else lines_of_stdin():
            for text, made in zip(some, translate(model, opened.tokenizer, some, **dials), strict=True):
                console.say(made.text)
                found.append({"source": text, "text": made.text, "score": made.score, "reason": made.reason})
    console.result({"run": str(run), "translations": found})


def lines_of_stdin() -> Iterator[list[str]]:
    """Each line as soon as it is there."""
    try:
        for line in sys.stdin:
            yield [line.rstrip("\r\n")]
    except UnicodeDecodeError as error:
        raise typer.BadParameter(t("cli.stdin", encoding=error.encoding, byte=error.object[error.start])) from None


def classify(
    run: RunPath,
    what: Annotated[list[str] | None, typer.Argument(metavar="IMAGE|TEXT...", help=t("cli.classify.what"))] = None,
    device: Device = "cpu",
) -> None:
    from kakehashi.inference import classify
    from kakehashi.runs import Run

    opened = Run.open(run)
    if opened.config.task == "label":
        return classify_texts(opened, what, device)
    opened.require("classify")
    if not what:
        raise typer.BadParameter(t("cli.classify.which"))
    images = [Path(each) for each in what]
    with opened.learners_code():
        answers = classify(opened.load_model(), opened.form, images, device)
    for path, answer in zip(images, answers, strict=True):
        console.say(f"{path}: {likely(answer)}")
    found = [{"image": str(path), "classes": listed(answer)} for path, answer in zip(images, answers, strict=True)]
    console.result({"run": str(run), "images": found})


def classify_texts(run: "Run", texts: list[str] | None, device: str) -> None:
    """The likeliest classes of the texts, or of each line of standard input; where the exported tool would abstain, so.

    In --json "abstain" is null where the run was never judged, and so has no threshold.
    """
    from kakehashi.cli.samples import short
    from kakehashi.inference import classify_texts
    from kakehashi.work.predictor import judging

    judged = judging.kept(run)
    temperature = judged["model"]["temperature"] if judged else 1.0
    found = []
    with run.learners_code():
        model = run.load_model()
        for some in [texts] if texts else lines_of_stdin():
            for text, answer in zip(
                some, classify_texts(model, run.form, some, device, temperature=temperature), strict=True
            ):
                unsure = judging.abstains(answer[0][1], judged["model"]["threshold"]) if judged else None
                mark = "  " + t("cli.classify.unsure") if unsure else ""
                console.say(f"{short(text, 60)}: {likely(answer)}{mark}")
                found.append({"text": text, "classes": listed(answer), "abstain": unsure})
    console.result({"run": str(run.path), "texts": found})


def likely(answer: list[tuple[str, float]]) -> str:
    """Classes with their probabilities, in a line."""
    return "  ".join(f"{name} {p:.1%}" for name, p in answer)


def listed(answer: list[tuple[str, float]]) -> list[dict[str, Any]]:
    return [{"class": name, "probability": p} for name, p in answer]


def evaluate(
    run: RunPath,
    split: Annotated[Split, typer.Option(help=t("cli.eval.split"))] = Split.val,
    device: Device = "cpu",
) -> None:
    from kakehashi import training
    from kakehashi.runs import Run

    opened = Run.open(run)
    config, codec = opened.config, opened.codec
    if split == Split.val:
        source = training.open_sources(config, codec)[1]
    else:
        source = training.open_test(config, codec, split.value)
    with opened.learners_code():
        engine = training.TorchEngine(device)
        model = opened.load_model().to(engine.device)
        loss, right = training.measure(model, source, engine, right=training.tasks.right(opened))
    key = "cli.eval.loss" if right is None else "cli.eval.right"
    console.say(t(key, split=t(f"cli.eval.{split.value}"), loss=loss, right=right, n=source.n_items))
    share = {} if right is None else {"right": right}
    console.result({"run": str(run), "split": split.value, "loss": loss, **share, "n": source.n_items})


def runs(root: Annotated[Path, typer.Argument(help=t("cli.option.root"))] = Path("runs")) -> None:
    from kakehashi.runs import list_runs

    found = [{"run": str(each.path), **each.summary()} for each in list_runs(root)]
    if not found:
        console.say(t("cli.runs.none", root=root))
    else:
        columns = ["run", "step", "val_loss", "right", "seconds"]  # the name says model and data
        if not any("right" in each for each in found):
            columns.remove("right")
        rows = [[shown(each.get(column), column) for column in columns] for each in found]
        console.table([t(f"cli.runs.{column}") for column in columns], rows, numbers=tuple(range(1, len(columns))))
    console.result({"runs": found})


def shown(value: Any, name: str = "") -> str:
    """A value of a table, of the column or the fact of that name."""
    if value is None:
        return "-"
    form = {"right": ".1%", "seconds": ".0f"}.get(name, ".3f")
    return format(value, form) if isinstance(value, float) else str(value)
