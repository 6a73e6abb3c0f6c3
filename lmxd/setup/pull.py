"""``lmxd pull``: a model is fetched from a hub, when it is known to fit, and served."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote
from urllib.request import OpenerDirector

import click

from lmxd.cli.files import Wanted
from lmxd.cli.remote import fits_here, of_offer, of_url
from lmxd.config.adding import with_profiles
from lmxd.config.file import DEFAULT_CONFIG, parse, read_configuration
from lmxd.config.location import USER
from lmxd.config.names import fitting
from lmxd.config.schema import Config
from lmxd.config.writing import may_write, write_own
from lmxd.errors import LmxdError
from lmxd.models.checksums import checksum_at
from lmxd.models.fetching import fetch
from lmxd.models.hub import Hub, chosen
from lmxd.models.layouts import own_models
from lmxd.models.pairing import projectors_of
from lmxd.models.quants import stem_of
from lmxd.models.reference import Reference, is_reference, reference
from lmxd.models.roles import facts_of
from lmxd.models.trust import trusting
from lmxd.rpc.client import Client, default_socket
from lmxd.rpc.estimates import Estimated
from lmxd.setup.found_profiles import needs
from lmxd.setup.pull_report import PullReport

_SPARE: Final = 2**30
"""Bytes of a disk that are left free."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """The place where models are fetched to, and the configuration that is to name them."""

    directory: Path
    config_path: Path


@dataclass(frozen=True, slots=True)
class _Behind:
    """More about a URL: the checksum of its file, and who connects to its server."""

    sha256: str | None
    opener: OpenerDirector | None

    @property
    def checksum(self) -> str | Callable[[], str] | None:
        said = self.sha256
        return partial(checksum_at, said, self.opener) if said is not None and is_reference(said) else said


@click.command()
@click.argument("model", metavar="hf:ORG/REPO[:QUANT]|URL")
@click.option("--to", type=click.Path(path_type=Path), help="Into this directory; by default model_dir.")
@click.option("--as", "name", help="Its name here; by default that of repository and quantization.")
@click.option("--sha256", help="Of a URL: the checksum that the file must have, or the URL of it.")
@click.option(
    "--tls",
    type=(Path, Path, Path, str),
    metavar="CA CERT KEY NAME",
    help="Of a URL: PEM files of the authority that is trusted, and of what is shown to it; the server's name there.",
)
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
    tls: tuple[Path, Path, Path, str] | None,
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
        if json_wanted:
            _require_addable(target)
        report.step("pulling manifest")
        opener = None if tls is None else trusting(*tls)
        path, beside, own = _fetched(wanted, target, _Behind(sha256, opener), report, anyway=anyway)
        _open_for_readers(path, target.directory)
        projector = _usable(beside, path, target, report)
        report.step("writing manifest")
        _add(target, fitting(name or own), path, projector, report)


def _usable(projector: Path | None, path: Path, target: Target, report: PullReport) -> Path | None:
    """The projector, if it is one for the model at ``path``."""
    if projector is None:
        return None
    if not projectors_of(path, [path], [projector]):
        report.step("reading header", f"{projector}: is left out, as its embeddings are not as long as the model's")
        return None
    _open_for_readers(projector, target.directory)
    return projector


def _fetched(
    wanted: Reference, target: Target, behind: _Behind, report: PullReport, *, anyway: bool
) -> tuple[Path, Path | None, str]:
    """(the file, or the first of its parts; its projector; its name)."""
    if wanted.url is not None:
        url, name = wanted.url, stem_of(unquote(wanted.url.partition("?")[0]))
        if not anyway:
            _require_fit(of_url(url, Wanted(dry_run="never"), behind.opener), report)
        told = partial(report.moved, f"pulling {name}")
        return fetch(url, target.directory, told, behind.checksum, opener=behind.opener), None, name
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
    return there.files[0], there.projector, offer.name


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


def _add(target: Target, name: str, path: Path, projector: Path | None, report: PullReport) -> None:
    """Add a profile, and have the daemon read it; nothing where the directory is served without profiles.

    To the configuration as it is now: somebody may have changed it while the model came.
    """
    text, config = _configured(target.config_path)
    if any(path.is_relative_to(served.expanduser()) for served in config.models_from):
        report.done(f"{path}: served as it is, for its directory is in models_from")
        return
    settings: dict[str, Any] = {"path": str(path)} | ({"mmproj": str(projector)} if projector else {})
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
