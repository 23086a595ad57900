"""Commands that make and use runs: train, sample, runs, show, data."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kakehashi.cli import console
from kakehashi.texts import t

if TYPE_CHECKING:
    from kakehashi.data import Split
    from kakehashi.inference import Completion
    from kakehashi.runs import Run

Root = Annotated[Path, typer.Option("--root", help=t("cli.option.root"))]
Device = Annotated[str, typer.Option(help=t("cli.option.device"))]
Seed = Annotated[int, typer.Option(help=t("cli.option.seed"))]
RunPath = Annotated[Path, typer.Argument(metavar="RUN", help=t("cli.option.run_path"))]


def train(
    ctx: typer.Context,
    model: Annotated[str, typer.Option(help=t("cli.train.model"))] = "gpt2",
    data: Annotated[str, typer.Option(help=t("cli.train.data"))] = "identifiers",
    preset: Annotated[str | None, typer.Option(help=t("cli.train.preset"))] = None,
    steps: Annotated[int | None, typer.Option(help=t("cli.train.steps"))] = None,
    batch_size: Annotated[int | None, typer.Option(help=t("cli.train.batch_size"))] = None,
    lr: Annotated[float | None, typer.Option(help=t("cli.train.lr"))] = None,
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
    split: Annotated[str, typer.Option(help=t("cli.train.split"))] = "distinct",
    encoding: Annotated[str | None, typer.Option(help=t("cli.train.encoding"))] = None,
    run: Annotated[Path | None, typer.Option(help=t("cli.train.run"))] = None,
    from_run: Annotated[Path | None, typer.Option("--from", help=t("cli.train.from"))] = None,
    resume: Annotated[Path | None, typer.Option(help=t("cli.train.resume"))] = None,
    root: Root = Path("runs"),
) -> None:
    from kakehashi import training
    from kakehashi.cli.progress import Watched, duration
    from kakehashi.runs import Run

    given = {
        "steps": steps,
        "batch_size": batch_size,
        "lr": lr,
        "weight_decay": weight_decay,
        "accumulate": accumulate,
        "carry": carry,
        "checkpoint_every": checkpoint_every,
        "dtype": dtype,
    }
    if resume or from_run:  # what the run itself decides cannot be said again
        said = [name for name in ctx.params if str(ctx.get_parameter_source(name)).endswith("COMMANDLINE")]
        fixed = ["model", "preset"] if from_run else [name for name in said if name not in ("resume", "root")]
        if again := [f"--{name.removesuffix('_run').replace('_', '-')}" for name in said if name in fixed]:
            raise typer.BadParameter(t("cli.train.fixed", options=", ".join(again), run=resume or from_run))
    if resume:
        made = Run.open(resume)
        texts = training.open_split(made.config)
        warn_of_shared(texts)
        sources = training.open_sources(made.config, made.tokenizer, texts)
    else:
        plan = training.plan(
            model,
            data,
            preset=preset,
            engine=engine,
            seed=seed,
            encoding=encoding,
            unit=unit,
            split=split,
            window=window,
            from_run=from_run,
            device=device,
            **{name: value for name, value in given.items() if value is not None},
        )
        warn_of_shared(plan.split)
        if plan.seen is None:
            console.say(t("cli.train.unknown", run=from_run), "yellow")
        elif plan.seen:
            console.say(t("cli.train.seen", share=plan.seen, run=from_run), "yellow")
        sources = plan.sources
        if any(cut := [source.n_cut for source in sources]):
            console.say(t("cli.train.cut", window=plan.config.data.block_size, train=cut[0], val=cut[1]), "yellow")
        made = plan.create(root) if run is None else plan.create(run.parent, run.name)
        if plan.borrowed:
            console.say(t("cli.train.borrowed", symbols=", ".join(plan.borrowed)))
        console.say(t("cli.train.starting", run=made.path, model=model, data=plan.config.data.name))
    watched = Watched(resuming=resume is not None)
    try:
        training.train(made.config, made, [watched], sources=sources)
    finally:
        watched.close()
    completions = written(made, made.config.train["device"], [""] * 8, max_tokens=60, seed=made.config.seed)
    made.write_samples(samples_page(made.name, [each.text for each in completions]))
    summary = made.summary()
    console.say(t("cli.train.done", val=summary["val_loss"], time=duration(summary["seconds"]), run=made.path))
    console.result({"run": str(made.path), **summary})


def written(run: "Run", device: str, prompts: list[str], **dials: Any) -> "list[Completion]":
    """What a run's model writes after the prompts; a mistake in a learner's own code is one line."""
    from kakehashi.inference import Engine
    from kakehashi.runs import learners_code

    with learners_code(run.path / "source.py", everything=False):
        return Engine(run.load_model(), run.tokenizer, device).generate(prompts, **dials)


def warn_of_shared(split: "Split") -> None:
    """Say where texts are validated on that are trained on, too."""
    if split.shared:
        console.say(t("cli.train.shared", share=split.shared, split=split.name), "yellow")


def samples_page(name: str, samples: list[str]) -> str:
    """samples.md of a run."""
    fences = "\n\n".join(f"```\n{sample}\n```" for sample in samples)
    return f"# {name}\n\n{fences}\n"


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


def runs(root: Annotated[Path, typer.Argument(help=t("cli.option.root"))] = Path("runs")) -> None:
    from kakehashi.runs import list_runs

    found = [{"run": str(each.path), **each.summary()} for each in list_runs(root)]
    if not found:
        console.say(t("cli.runs.none", root=root))
    else:
        columns = ["run", "step", "val_loss", "seconds"]  # the name says model and data
        rows = [[each["run"], each["step"], shown(each["val_loss"]), round(each["seconds"])] for each in found]
        console.table([t(f"cli.runs.{column}") for column in columns], rows, numbers=(1, 2, 3))
    console.result({"runs": found})


def show(run: RunPath) -> None:
    from kakehashi.runs import Run

    opened = Run.open(run)
    summary = opened.summary()
    rows = [[t(f"cli.show.fact.{name}"), shown(value)] for name, value in facts(opened, summary).items() if value != ""]
    console.table([t("cli.show.what"), t("cli.show.value")], rows)
    evaluations = [row for row in opened.metrics() if row["split"] == "val"]
    console.say()
    rows = [[row["step"], shown(row["loss"])] for row in evaluations]
    console.table([t("cli.runs.step"), t("cli.runs.val_loss")], rows, numbers=(0, 1))
    samples = opened.path / "samples.md"
    if samples.exists():
        console.say("\n" + samples.read_text(encoding="utf-8"))
    console.result({"run": str(run), "config": opened.config.to_dict(), **summary})


def facts(run: "Run", summary: dict[str, Any]) -> dict[str, Any]:
    """What a person wants to know of a run, by the keys of its texts; "" where there is nothing to say."""
    config, model, data = run.config, run.config.model, run.config.data
    own = run.source is not None
    return {
        "model": t("cli.show.own", name=model.name) if own else model.name,
        "preset": "" if own else preset_of(run),
        "config": ", ".join(f"{name} {value}" for name, value in model.config.items()),
        "borrowed": ", ".join(model.borrowed),
        "data": data.name,
        "use": t(f"cli.show.{'private' if run.private else 'public'}_data"),
        "split": data.split,
        "unit": data.unit,
        "window": data.block_size,
        "state": t(f"cli.show.{'carried' if config.train.get('carry') else 'fresh'}") if data.unit == "stream" else "",
        "seed": config.seed,
        "started_from": config.started_from or "",
        "step": f"{summary['step']}/{summary['steps']}" if summary["steps"] else "",  # none: it learnt elsewhere
        "val_loss": summary["val_loss"],
        "seconds": summary["seconds"],
    }


def preset_of(run: "Run") -> str:
    """The preset of a reference that the run's Config is, but for what the data and `train` decide; "" for none."""
    chosen = {name: value for name, value in asdict(run.model_config).items() if name not in ("vocab_size", "fused")}
    return next((name for name, each in run.family.presets.items() if chosen.items() <= asdict(each).items()), "")


def shown(value) -> str:
    """A value of a table."""
    return "-" if value is None else f"{value:.3f}" if isinstance(value, float) else str(value)


data = typer.Typer(rich_markup_mode=None)


@data.command("list", help=t("cli.data.list"))
def data_list() -> None:
    from kakehashi.data import catalogue

    sets = catalogue()
    for each in sets:
        console.say(each.name, "bold")
        console.say(f"  {each.about}")
        console.say(f"  {each.licence}: {each.use}", "dim")
        console.say(f"  {each.found or where(each)}", "dim")
    keys = ("name", "about", "unit", "licence", "use", "url", "sha256")
    facts = [{key: getattr(each, key) for key in keys} | {"found": str(each.found or "")} for each in sets]
    console.result({"data": facts})


def where(dataset) -> str:
    """Where a set that is not on the disk comes from."""
    return t("cli.data.to_get", name=dataset.name) if dataset.url else t("cli.data.made_here")


@data.command("get", help=t("cli.data.get"))
def data_get(name: Annotated[str, typer.Argument(help=t("cli.data.name_option"))]) -> None:
    from kakehashi.data import get

    path = get(name)
    console.say(t("cli.data.got", name=name, path=path))
    console.result({"name": name, "path": str(path)})


@data.command("show", help=t("cli.data.show"))
def data_show(
    name: Annotated[str, typer.Argument(help=t("cli.train.data"))],
    encoding: Annotated[str | None, typer.Option(help=t("cli.train.encoding"))] = None,
    unit: Annotated[str | None, typer.Option(help=t("cli.train.unit"))] = None,
) -> None:
    from kakehashi.data import corpus

    found = corpus(name, encoding, unit)
    split = found.split()
    facts = {
        "name": found.name,
        "documents": len(found.documents),
        "characters": sum(map(len, found.documents)),
        "alphabet": len(set().union(*found.documents)),
        "unit": found.unit,
        "train": len(split.train),
        "val": len(split.val),
        "split": split.name,
        "licence": found.licence,
        "origin": found.origin,
        "sha256": found.sha256,
    }
    console.table([t("cli.show.what"), t("cli.show.value")], [[key, value] for key, value in facts.items()])
    console.say("\n" + "\n".join(document[:80] for document in found.documents[:5]))
    console.result(facts)
