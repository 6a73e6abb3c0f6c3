"""lmxctl estimate: what a model takes, by part; of a profile by asking the daemon, of a file right here."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import Any

import click

from lmxd.cli import output, steps
from lmxd.cli.common import answers, completes, connect
from lmxd.cli.files import Wanted, estimates_of, of_file
from lmxd.cli.output import GIB, MIB
from lmxd.cli.remote import of_reference
from lmxd.cli.served import WantedServed, of_directory
from lmxd.errors import LmxdError
from lmxd.estimate.directories import is_directory
from lmxd.gguf.footprint import PARTS
from lmxd.gguf.types import CACHE_TYPES
from lmxd.models.found import Search
from lmxd.models.reference import is_reference, reference
from lmxd.rpc.estimates import Estimated
from lmxd.rpc.messages import CacheType
from lmxd.safetensors.types import COMPUTED, KEPT
from lmxd.terminal import StillLooking, say
from lmxd.text import known_as

CACHE = click.Choice(list(CACHE_TYPES))


@click.command()
@click.argument(
    "model", metavar="FILE.gguf|DIRECTORY|hf:ORG/REPO:QUANT|URL|MODEL", shell_complete=completes("model or variant")
)
@click.option("--ctx", type=click.IntRange(1, 2**27), help="Tokens per slot.")
@click.option("--slots", type=click.IntRange(1, 256), help="Slots.")
@click.option("--cache-type", type=CACHE, help="Type of the K and V cache.")
@click.option("--cache-type-k", type=CACHE, help="Type of the K cache alone.")
@click.option("--cache-type-v", type=CACHE, help="Type of the V cache alone.")
@click.option(
    "--as-gpu", "cards", multiple=True, metavar="NAME", help="For a file: on this GPU; once for each of several."
)
@click.option("--flags", metavar="WORDS", help="For a file: llama-server's own flags, instead of the options above.")
@click.option("--gpus", type=click.IntRange(1, 64), help="For vLLM's directory: GPUs, in equal shares.")
@click.option("--kv-tokens", type=click.IntRange(1, 2**31), help="For vLLM's directory: tokens of the cache.")
@click.option(
    "--dtype", type=click.Choice(list(COMPUTED)), help="For vLLM's directory: the type that it is computed in."
)
@click.option(
    "--kv-cache-dtype", type=click.Choice(["auto", *KEPT]), help="For vLLM's directory: the type of its cache."
)
@click.option("--engine", type=click.Path(path_type=Path), help="For a file: the llama-server that it is for.")
@click.option(
    "--dry-run",
    type=click.Choice(["auto", "always", "never"]),
    default="auto",
    help="For a file: whether llama-server itself is asked too; auto: where the closed form is unsure.",
)
@answers
def estimate(
    model: str,
    ctx: int | None,
    slots: int | None,
    cache_type: CacheType | None,
    cache_type_k: CacheType | None,
    cache_type_v: CacheType | None,
    cards: tuple[str, ...],
    flags: str | None,
    engine: Path | None,
    dry_run: str,
    json_wanted: bool,
    **served: Any,
) -> None:
    """Bytes that a model takes, by part.

    Of a model of a hub only the header is read, not fetched: whether it fits, with which
    context, and which quantization of its repository is the largest that does.

    A FILE, or all files of a DIRECTORY and of those in it, are read here, without the daemon and without a
    GPU: for the GPUs named by --as-gpu, else for those of this machine, else for RAM. A
    MODEL of the configuration is asked of the daemon, for the devices it has.

    A DIRECTORY with a config.json and files of safetensors is one model, which vLLM serves: its weights,
    the cache by blocks, and how many tokens fit on each device.
    """
    k, v = cache_type_k or cache_type, cache_type_v or cache_type
    served = {name: value for name, value in served.items() if value is not None}
    if served or is_directory(Path(model)):
        _only_for_vllm(model, k=k, v=v, engine=engine)
        words = tuple(shlex.split(flags or ""))
        show(
            of_directory(Path(model), WantedServed(ctx=ctx, slots=slots, cards=cards, flags=words, **served)),
            json_wanted,
        )
        return
    if not (_is_file(model) or is_reference(model)):
        if cards or flags or engine:
            raise LmxdError(
                "invalid_params", f"{model} is a model of the daemon's", "name a file to use --as-gpu, --flags"
            )
        with connect() as client:
            asked = client.estimate(model, ctx=ctx, slots=slots, cache_type_k=k, cache_type_v=v)
        show(asked, json_wanted)
        return
    if flags is not None and any((ctx, slots, k, v)):
        raise LmxdError("invalid_params", "--flags and --ctx, --slots or --cache-type exclude each other", "use one")
    wanted = Wanted(ctx=ctx, slots=slots, k=k, v=v, cards=cards, flags=flags, engine=engine, dry_run=dry_run)
    if is_reference(model):
        show(of_reference(reference(model), wanted), json_wanted)
    elif Path(model).is_dir():
        _show_all(*_below(Path(model), wanted), json_wanted)
    else:
        _require_file(Path(model))
        show(of_file(Path(model), wanted), json_wanted)


def _below(directory: Path, wanted: Wanted) -> tuple[list[Estimated | LmxdError], list[str]]:
    """The estimates of all models in a directory and below, and sentences about what could not be looked at."""
    looking, found = StillLooking(), list[Estimated | LmxdError]()
    search = Search(told=looking)
    search.look(directory)
    files = [(each.path, each.words) for each in search.models]
    for (path, _), estimated in zip(files, estimates_of(files, wanted), strict=True):
        looking(path)
        found.append(estimated)
    return found, search.unread


def _only_for_vllm(model: str, **others: object) -> None:
    """LmxdError ``invalid_params`` for options that are about llama-server."""
    called = {"k": "--cache-type", "v": "--cache-type", "engine": "--engine"}
    if wrong := sorted({called[name] for name, value in others.items() if value is not None}):
        remedy = "take it out; --kv-cache-dtype is vLLM's"
        raise LmxdError("invalid_params", f"{wrong[0]} is llama-server's, and {model} is for vLLM", remedy)


def _require_file(path: Path) -> None:
    """LmxdError ``model_file_missing`` if there is none. Others say what a profile should name, which is not meant."""
    if not os.path.lexists(path):
        remedy = "name a file that is there, hf:ORG/REPO:QUANT, or a model (lmxctl models)"
        raise LmxdError("model_file_missing", f"{path}: No such file or directory", remedy)


def _is_file(name: str) -> bool:
    """Whether it is meant as a path. A name with slashes is a model's, as repositories have them."""
    return name.endswith(".gguf") or name.startswith(("/", "./", "../", "~")) or Path(name).exists()


def show(e: Estimated, json_wanted: bool) -> None:
    if json_wanted:
        output.as_json(e)
        return
    of = "one cache for" if e.unified and e.slots > 1 else "each of"
    say(f"{e.model}: {e.ctx} tokens in {of} {e.slots} slot{'s' if e.slots > 1 else ''}, {e.basis}")
    places = [(_name(e, d["device"]), d) for d in e.devices] + [("host", e.host)]
    rows = [
        (part, *(f"{parts[part] / MIB:,.1f}" for _, parts in places))
        for part in (*PARTS, "total")
        if part == "total" or any(parts[part] for _, parts in places)
    ]
    output.table(("PART", *(f">{place} MiB" for place, _ in places)), rows, "")
    if e.files:
        output.table(("WITH", ">MiB", "FILE"), [(x.use, f"{x.size / MIB:,.1f}", x.path) for x in e.files], "")
    for context in e.contexts:
        size, error = (f"{context[key] / MIB:,.0f} MiB" for key in ("bytes", "error"))
        place = _name(e, context["device"])
        say(f"overhead on {place}: {size} of the process itself, plus or minus {error} ({context['source']})")
    say(f"plus or minus {e.error / MIB:,.0f} MiB")
    if e.declared is not None:
        say(f"declared in the configuration: {e.declared / GIB:g} GiB; that is what is promised")
    for note in e.notes:
        say(f"note: {note}")
    for what, value in e.fits.items():
        if isinstance(value, dict):
            for device, number in value.items():
                say(f"fits: {number:,} {what} of cache on {_name(e, device)}")
            continue
        say(f"fits: {what.replace('_', ' ')} {value if value is not None else 'none'}")
    if e.growth is not None:
        steps.show(e.growth, e.called)
    if e.inputs:
        say("from " + ", ".join(f"{key} {value}" for key, value in e.inputs.items()))


def _name(e: Estimated, device: str) -> str:
    return known_as(device, e.called)


def _show_all(found: list[Estimated | LmxdError], unread: list[str], json_wanted: bool) -> None:
    if json_wanted:
        shown = [
            {"error": e.code, "message": e.message} if isinstance(e, LmxdError) else e.model_dump(mode="json")
            for e in found
        ]
        output.as_json({"models": shown, "unread": unread})
        return
    rows = []
    for e in found:
        if isinstance(e, LmxdError):
            rows.append((str(e.data.get("file", "")), "", "", "", "", e.message))
            continue
        device = output.gib(sum(d["total"] for d in e.devices)) if e.devices else "-"
        rows.append(
            (
                Path(e.model).name,
                str(e.ctx),
                str(e.slots),
                device,
                output.gib(e.host["total"]),
                e.basis,
            )
        )
    output.table(
        ("FILE", ">CTX", ">SLOTS", ">DEVICE GiB", ">HOST GiB", "BASIS"),
        rows,
        "no GGUF files there, nor in directories below, and no config.json of a model for vLLM",
    )
    for sentence in unread:
        say(sentence, err=True)
