"""lmxctl estimate: what a model takes, by part; of a profile by asking the daemon, of a file right here."""

from __future__ import annotations

from pathlib import Path

import click

from lmxd.cli import output
from lmxd.cli.common import answers, completes, connect
from lmxd.cli.output import GIB, MIB, short
from lmxd.estimate.files import read_model
from lmxd.estimate.footprints import DEFAULT_CONTEXT, inputs
from lmxd.estimate.footprints import estimate as footprint_of
from lmxd.gguf.footprint import Launch
from lmxd.gguf.types import CACHE_TYPES
from lmxd.rpc import messages as m

CACHE = click.Choice(list(CACHE_TYPES))


@click.command()
@click.argument("model", metavar="FILE.gguf|MODEL", shell_complete=completes("model"))
@click.option("--ctx", type=click.IntRange(1, 2**27), help="Tokens per slot.")
@click.option("--slots", type=click.IntRange(1, 256), help="Slots.")
@click.option("--cache-type", type=CACHE, help="Type of the K and V cache.")
@click.option("--cache-type-k", type=CACHE, help="Type of the K cache alone.")
@click.option("--cache-type-v", type=CACHE, help="Type of the V cache alone.")
@click.option("--gpu-layers", type=click.IntRange(0), help="For a file: layers on the GPU; all by default.")
@click.option("--ubatch", type=click.IntRange(1, 2**20), default=512, show_default=True, help="For a file: -ub.")
@click.option("--flash-attn", type=click.Choice(["auto", "on", "off"]), default="auto", help="For a file: -fa.")
@click.option("--on", "place", type=click.Choice(["both", "gpu", "host"]), default="both", help="For a file: where.")
@answers
def estimate(
    model: str,
    ctx: int | None,
    slots: int | None,
    cache_type: str | None,
    cache_type_k: str | None,
    cache_type_v: str | None,
    gpu_layers: int | None,
    ubatch: int,
    flash_attn: str,
    place: str,
    json_wanted: bool,
) -> None:
    """Bytes that a model takes, by part.

    A FILE is read here, without the daemon, and shown for a GPU and for RAM. A MODEL of
    the configuration is asked of the daemon, for the devices it has.
    """
    k, v = cache_type_k or cache_type, cache_type_v or cache_type
    if _is_file(model):
        launch = Launch(
            context=ctx or DEFAULT_CONTEXT,
            slots=slots or 1,
            ubatch=ubatch,
            batch=max(2048, ubatch),
            cache_type_k=k or "f16",
            cache_type_v=v or "f16",
            flash=flash_attn,
            gpu_layers=gpu_layers,
        )
        shown = [_of_file(Path(model), launch, where) for where in ("gpu", "host") if place in ("both", where)]
    else:
        with connect() as client:
            shown = [
                client.call("estimate", m.Estimated, model=model, ctx=ctx, slots=slots, cache_type_k=k, cache_type_v=v)
            ]
    if json_wanted:
        output.as_json({"estimates": [e.model_dump(mode="json") for e in shown]} if len(shown) > 1 else shown[0])
        return
    for e in shown:
        _print(e)


def _is_file(name: str) -> bool:
    return name.endswith(".gguf") or "/" in name


def _of_file(path: Path, launch: Launch, where: str) -> m.Estimated:
    model = read_model(path)
    if launch.context > model.context:
        click.echo(f"note: the model was trained for {model.context} tokens", err=True)
    found = footprint_of(model, launch, on_gpu=where == "gpu")
    return m.Estimated(
        model=str(path),
        ctx=launch.context,
        slots=launch.slots,
        basis=found.basis,
        devices={"gpu": found.parts.device.as_dict()} if where == "gpu" else {},
        host=found.parts.host.as_dict(),
        inputs=inputs(model, launch),
    )


def _print(e: m.Estimated) -> None:
    click.echo(f"{e.model}: {e.ctx} tokens in each of {e.slots} slot{'s' if e.slots > 1 else ''}, {e.basis}")
    places = {short(device): parts for device, parts in e.devices.items()} | {"host": e.host}
    rows = [
        (part, *(f"{parts[part] / MIB:,.1f}" for parts in places.values()))
        for part in ("weights", "kv", "compute", "overhead", "total")
    ]
    output.table(("PART", *(f">{place} MiB" for place in places)), rows, "")
    if e.declared is not None:
        click.echo(f"declared in the configuration: {e.declared / GIB:g} GiB; that is what is promised")
    click.echo("from " + ", ".join(f"{key} {value}" for key, value in e.inputs.items()))


COMMANDS = (estimate,)
