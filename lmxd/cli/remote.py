"""Models of a hub estimated right here, from their headers alone, before anything of them is fetched."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from lmxd.cli.files import Wanted, of_file
from lmxd.errors import LmxdError
from lmxd.models.found import beside_words
from lmxd.models.hub import Hub, Offer, chosen
from lmxd.models.reference import Reference
from lmxd.models.url_model import UrlModel
from lmxd.rpc.estimates import Estimated
from lmxd.xdg import own_directory


def of_reference(wanted: Reference, asked: Wanted) -> Estimated:
    """The estimate of a model elsewhere: whether it fits, and the largest of its repository that does.

    LmxdError: as for a file, or ``config`` without the library.
    """
    if wanted.url is not None:
        return of_url(UrlModel(url=wanted.url), asked)
    hub = Hub()
    offers = hub.offers(wanted)
    return of_offer(hub, chosen(offers, wanted), offers, asked)


def of_url(model: UrlModel, asked: Wanted) -> Estimated:
    """The estimate of a model behind URLs, from the headers of all its files."""
    with TemporaryDirectory(prefix="lmxd-header-") as directory:
        path, words = model.headers(Path(directory))
        return _judged(of_file(path, replace(asked, beside=(*asked.beside, *words))), model.url)


def of_offer(hub: Hub, offer: Offer, offers: list[Offer], asked: Wanted) -> Estimated:
    """The estimate of an offer, with the largest of all offers that fits this machine."""
    found = _estimated(hub, offer, asked)
    if not found.fits:
        return found
    largest = _largest(hub, offer, found, offers, asked)
    return found.model_copy(update={"fits": found.fits | {"largest_quantization": largest and largest.quant}})


def fits_here(found: Estimated) -> bool:
    """Whether an estimated launch fits; True where nothing is known of the devices."""
    largest = found.fits.get("largest_context", found.ctx)
    return largest is not None and largest >= found.ctx


def _estimated(hub: Hub, offer: Offer, asked: Wanted) -> Estimated:
    cache = own_directory("XDG_CACHE_HOME", ".cache") / "lmxd/headers"
    there = hub.header(offer, cache)
    words = beside_words(there.files[0], there.projector)
    return _judged(of_file(there.files[0], replace(asked, beside=words)), f"hf:{offer.name}")


def _judged(found: Estimated, name: str) -> Estimated:
    notes = found.notes if fits_here(found) else [*found.notes, "it does not fit this machine as asked"]
    return found.model_copy(update={"model": name, "notes": notes})


def _largest(hub: Hub, offer: Offer, found: Estimated, offers: list[Offer], asked: Wanted) -> Offer | None:
    """The largest offer that fits. Those that are smaller than one that does are not looked at."""
    for each in offers:
        try:
            if fits_here(found if each is offer else _estimated(hub, each, asked)):
                return each
        except LmxdError:
            continue  # such as one that is no model by itself
    return None
