"""``lmxd pull``: a model is fetched from a hub, when it is known to fit, and served."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, get_args

import click

from lmxd.catalog.replacing import require_no_others
from lmxd.cli.files import Wanted
from lmxd.cli.remote import fits_here, of_offer, of_url
from lmxd.config.adding import with_profiles
from lmxd.config.copied import SIZES, BesideKey
from lmxd.config.file import DEFAULT_CONFIG, parse, read_configuration
from lmxd.config.location import USER
from lmxd.config.names import fitting
from lmxd.config.schema import Config
from lmxd.config.writing import may_write, write_own
from lmxd.errors import LmxdError
from lmxd.models.hub import Hub, chosen
from lmxd.models.layouts import own_models
from lmxd.models.pairing import projectors_of
from lmxd.models.reference import Reference, reference
from lmxd.models.roles import facts_of
from lmxd.models.trust import trusting
from lmxd.models.url_model import UrlModel, with_files
from lmxd.rpc.client import Client, default_socket
from lmxd.rpc.estimates import Estimated
from lmxd.setup.found_profiles import needs
from lmxd.setup.further_keys import further_keys
from lmxd.setup.pull_report import PullReport

_SPARE: Final = 2**30
"""Bytes of a disk that are left free."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """The place where models are fetched to, and the configuration that is to name them."""

    directory: Path
    config_path: Path


@dataclass(frozen=True, kw_only=True, slots=True)
class _Fetched:
    """A model that has come: its file, or the first of its parts; those beside it; its name; keys of its profile."""

    path: Path
    beside: Sequence[tuple[BesideKey, Path]]
    name: str
    settings: dict[str, Any]


@click.command()
@click.argument("model", metavar="hf:ORG/REPO[:QUANT]|URL")
@click.option("--to", type=click.Path(path_type=Path), help="Into this directory; by default model_dir.")
@click.option("--as", "name", help="Its name here; by default that of repository and quantization.")
@click.option("--sha256", help="Of a URL: the checksum that the file must have, its URL, or .ENDING of such URLs.")
@click.option(
    "--size",
    "sizes",
    type=(str, click.IntRange(1)),
    multiple=True,
    metavar="FILE BYTES",
    help="Of a URL: the bytes of a file, of which no more are fetched; of each, or of none.",
)
@click.option(
    "--tls",
    type=(Path, Path, Path, str),
    metavar="CA CERT KEY NAME",
    help="Of a URL: PEM files of the authority that is trusted, and of what is shown to it; the server's name there.",
)
@click.option(
    "--beside",
    type=(click.Choice(get_args(BesideKey)), str),
    multiple=True,
    metavar="KEY URL",
    help="Of a URL: a file that goes with it, as mmproj, draft or lora.",
)
@click.option("--settings", default="{}", help="Further keys of its profile, as JSON.")
@click.option("--anyway", is_flag=True, help="Also if it does not fit this machine, or nobody can say.")
@click.option("--json", "json_wanted", is_flag=True, help="Say each step as a line of JSON, as ollama's API has them.")
@USER
@click.pass_context
def pull(
    context: click.Context,
    model: str,
    to: Path | None,
    name: str | None,
    sha256: str | None,
    sizes: tuple[tuple[str, int], ...],
    tls: tuple[Path, Path, Path, str] | None,
    beside: tuple[tuple[BesideKey, str], ...],
    settings: str,
    anyway: bool,
    json_wanted: bool,
) -> None:
    """Fetch a model into model_dir, and add a profile of it to the configuration.

    Its header is read first: a model that does not fit this machine is not fetched. What was
    broken off is gone on with.
    """
    report = PullReport(for_programs=json_wanted)
    with report.failing():
        wanted = reference(model)
        target = _target(context.obj, to, user=context.find_root().params["user"] or os.geteuid() != 0)
        keys = further_keys(settings, beside, _configured(target.config_path)[1])
        if json_wanted:
            _require_addable(target)
        report.step("pulling manifest")
        if wanted.url is not None:
            opener = None if tls is None else trusting(*tls)
            behind = UrlModel(url=wanted.url, beside=beside, sizes=dict(sizes), sha256=sha256, opener=opener)
            behind.require_sizes()
            called, there = fitting(name or behind.name), behind.paths(target.directory)
            require_no_others(_configured(target.config_path)[1], called, there)
            found = _of_server(behind, target, keys, report, anyway=anyway)
        else:
            found = _of_hub(wanted, target, keys, report, anyway=anyway)
        for path in (found.path, *(path for _, path in found.beside)):
            _open_for_readers(path, target.directory)
        report.step("writing manifest")
        _add(target, fitting(name or found.name), found, report)


def _of_server(
    model: UrlModel, target: Target, settings: dict[str, Any], report: PullReport, *, anyway: bool
) -> _Fetched:
    """Fetch a model behind URLs, with its settings; without those of its size, where it fits in another one alone."""
    if not anyway:
        ctx, slots = settings.get("context_length"), settings.get("slots")
        found = of_url(model, Wanted(ctx=ctx, slots=slots, dry_run="never"))
        if settings and not fits_here(found):
            settings = {key: value for key, value in settings.items() if key not in SIZES}
            found = of_url(model, Wanted(dry_run="never"))
        _require_fit(found, report)

    def told(file: str, done: int, whole: int) -> None:
        report.moved(f"pulling {file.removesuffix('.gguf')}", done, whole)

    path, beside = model.fetched(target.directory, told)
    return _Fetched(path=path, beside=beside, name=model.name, settings=settings)


def _of_hub(
    wanted: Reference, target: Target, settings: dict[str, Any], report: PullReport, *, anyway: bool
) -> _Fetched:
    """Fetch a model of the hub, and its projector if that is one for it."""
    hub = Hub()
    offers = hub.offers(wanted)
    offer = chosen(offers, wanted)
    if not anyway:
        _require_fit(of_offer(hub, offer, offers, Wanted(dry_run="never")), report)
    _require_disk(target.directory, offer.size)
    status, digest = f"pulling {offer.quant}", offer.files[0].sha256
    beside = f", with its projector {offer.projector.name}" if offer.projector else ""
    sentence = f"{offer.name}: {offer.size / 2**30:.2f} GiB{beside} into {target.directory / offer.repository}"
    report.step(status, sentence)

    def hub_told(done: int) -> None:
        report.moved(status, done, offer.size, digest and f"sha256:{digest}")

    there = hub.fetch(offer, target.directory, hub_told if report.for_programs else None)
    path, projector = there.files[0], there.projector
    if projector is not None and not projectors_of(path, [path], [projector]):
        report.step("reading header", f"{projector}: is left out, as its embeddings are not as long as the model's")
        projector = None
    files: list[tuple[BesideKey, Path]] = [] if projector is None else [("mmproj", projector)]
    return _Fetched(path=path, beside=files, name=offer.name, settings=settings)


def _target(config_path: Path, to: Path | None, *, user: bool) -> Target:
    """LmxdError ``config`` if the configuration cannot be used, or the directory not be made."""
    _, config = _configured(config_path)
    own = user and "model_dir" not in config.model_fields_set
    directory = (to or (own_models() if own else config.model_dir)).expanduser().absolute()
    try:
        directory.mkdir(mode=0o755, parents=True, exist_ok=True)
    except OSError as error:
        raise LmxdError("config", f"{directory}: {error.strerror}", _elsewhere(config_path)) from error
    if not os.access(directory, os.W_OK):
        raise LmxdError("config", f"{directory} cannot be written to", _elsewhere(config_path))
    return Target(directory=directory, config_path=config_path)


def _elsewhere(config_path: Path) -> str:
    """The remedy for a directory that takes no model: another directory, or another who writes to it."""
    if may_write(config_path):
        return f"say --to DIRECTORY, or name another model_dir in {config_path}"
    return "run it as root, or say --user, or --to DIRECTORY"


def _require_addable(target: Target) -> None:
    """LmxdError ``config`` if a profile would have to be added by hand, as no program does when a model has come."""
    text, config = _configured(target.config_path)
    if any(target.directory.is_relative_to(served.expanduser()) for served in config.models_from):
        return
    if not may_write(target.config_path):
        what = f"{target.config_path} cannot be written, where a profile of the model is to be added"
        raise LmxdError("config", what, f"name {target.directory} in its models_from, which serves what is there")
    try:
        with_profiles(text, {"model": {"path": str(target.directory / "model.gguf")}})
    except LmxdError as error:
        what = f"{target.config_path}: models: is written in a style that no profile can be added to"
        raise LmxdError("config", what, "write it as a block, with a line for each model") from error


def _configured(path: Path) -> tuple[str, Config]:
    """The configuration as it is now, and its text; that of nothing where there is none."""
    text = read_configuration(path, regular=True) if os.path.lexists(path) else ""
    return text, parse(text, str(path))


def _require_fit(found: Estimated, report: PullReport) -> None:
    """LmxdError ``never_fits`` if a model does not fit this machine."""
    report.step("reading header", f"{found.model}: {needs(found)}")
    if fits_here(found):
        return
    other = found.fits.get("largest_quantization")
    remedy = f"{other} is the largest that does" if other else "choose a smaller model"
    raise LmxdError("never_fits", f"{found.model} does not fit this machine", f"{remedy}; or say --anyway")


def _require_disk(directory: Path, size: int) -> None:
    free = shutil.disk_usage(directory).free
    if size + _SPARE > free:
        problem = f"{directory} has {free / 2**30:.1f} GiB free, of which {size / 2**30:.1f} and 1 more are needed"
        raise LmxdError("config", problem, "make room, or name another directory with --to")


def _open_for_readers(path: Path, directory: Path) -> None:
    """Let the service's user read a model that root fetched, whatever the umask."""
    if os.geteuid() != 0:
        return
    for each in [path, *path.parents]:
        if each == directory or not each.is_relative_to(directory):
            break
        each.chmod(0o755 if each.is_dir() else 0o644)
    for part in path.parent.glob("*.gguf"):
        part.chmod(0o644)


def _add(target: Target, name: str, found: _Fetched, report: PullReport) -> None:
    """Add a profile, and have the daemon read it; nothing where the directory is served without profiles.

    To the configuration as it is now: somebody may have changed it while the model came.
    """
    path = found.path
    text, config = _configured(target.config_path)
    settings: dict[str, Any] = {"path": str(path)} | with_files(found.settings, found.beside)
    if any(path.is_relative_to(served.expanduser()) for served in config.models_from):
        by_hand = settings if len(settings) > 1 else {}
        report.done(f"{path}: served as it is, for its directory is in models_from", by_hand)
        return
    if answers := facts_of(path).answers:
        settings[answers] = True
    if config.models.get(name) is None:
        mode = 0o644 if target.config_path == DEFAULT_CONFIG else 0o600
        more = with_profiles(text, {name: settings})
        try:
            write_own(target.config_path, more, mode)
        except LmxdError as error:
            shown = f"models: {{'{name}': {{{', '.join(f'{key}: {value}' for key, value in settings.items())}}}}}"
            raise LmxdError("config", error.message, f"add to it: {shown}") from error
    try:
        with Client(default_socket()) as client:
            client.reload()
    except LmxdError as error:
        later = f"lmxd will know of it when it reads its configuration: lmxctl reload ({error.message})"
        report.step(later, later)
    report.done(f"{name}: {path}, in {target.config_path}")
