"""Certificates of a fleet: one authority, which signs that a key belongs to a role and a name.

Keys are on the curve P-256. A member makes its own and sends a request (CSR), of which only the public key counts:
every name in its certificate is the authority's word.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from lmxd.errors import LmxdError
from lmxd.fleet.members import Member, any_host
from lmxd.fleet.names import NODE

LIFETIME: Final = timedelta(days=90)
"""Of a member's certificate, which is renewed when a third of it is left."""
_OF_AUTHORITY: Final = timedelta(days=3650)
_SKEW: Final = timedelta(hours=1)
"""Clocks of two boxes may differ by so much."""


def new_key() -> bytes:
    """A private key as PEM, without a password."""
    return ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def requested(key: bytes) -> bytes:
    """A request (CSR, PEM) to sign that key: it proves that who asks has it."""
    return (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([]))
        .sign(_loaded(key), hashes.SHA256())
        .public_bytes(serialization.Encoding.PEM)
    )


class Authority:
    """A fleet's own certificate authority. ``certificate``, ``key``: PEM."""

    def __init__(self, certificate: bytes, key: bytes) -> None:
        self.certificate, self.key = certificate, key
        self._certificate, self._key = x509.load_pem_x509_certificate(certificate), _loaded(key)
        self.fleet = fleet_of(certificate)

    @classmethod
    def new(cls, fleet: str, now: datetime | None = None) -> Authority:
        """An authority for a fleet of that name, for ten years from ``now``."""
        now, key = now or datetime.now(UTC), new_key()
        loaded = _loaded(key)
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, fleet)])
        usage = _usage(signs_certificates=True)
        certificate = (
            _builder(name, name, loaded.public_key(), now, now + _OF_AUTHORITY)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(loaded.public_key()), critical=False)
            .sign(loaded, hashes.SHA256())
        )
        return cls(certificate.public_bytes(serialization.Encoding.PEM), key)

    def sign(
        self,
        request: bytes,
        member: Member,
        *,
        hosts: Iterable[str] = (),
        now: datetime | None = None,
        lifetime: timedelta = LIFETIME,
    ) -> bytes:
        """The certificate (PEM) of a member for the key of a request. ``hosts``: further names or addresses of it.

        LmxdError ``invalid_params`` if it is no request, or is signed by another key than it names.
        """
        now, public = now or datetime.now(UTC), _public_key(request)
        names = [member.host, any_host(member.fleet, member.role), member.user(_hash_of(public)), *hosts]
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"{member.role} {member.name}"[:64])])
        issuer_key = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        alternatives = [x509.UniformResourceIdentifier(member.uri), *map(_general_name, names)]
        certificate = (
            _builder(subject, self._certificate.subject, public, now, now + lifetime)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs_certificates=False), critical=True)
            .add_extension(
                x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]),
                critical=False,
            )
            .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
            .add_extension(issuer_key, critical=False)
            .sign(self._key, hashes.SHA256())
        )
        return certificate.public_bytes(serialization.Encoding.PEM)


def validity(certificate: bytes) -> tuple[float, float]:
    """Begin and end of a certificate (PEM), in seconds since 1970. ValueError if it is none."""
    found = x509.load_pem_x509_certificate(certificate)
    return found.not_valid_before_utc.timestamp(), found.not_valid_after_utc.timestamp()


def fleet_of(authority: bytes) -> str:
    """The fleet whose authority has this certificate (PEM). LmxdError ``bad_answer`` if it is none."""
    try:
        names = x509.load_pem_x509_certificate(authority).subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    except ValueError as error:
        raise LmxdError("bad_answer", "the authority's certificate cannot be read", "update lmxd") from error
    if len(names) != 1 or not NODE.fullmatch(str(names[0].value)):
        raise LmxdError("bad_answer", "the authority's certificate names no fleet", "update lmxd")
    return str(names[0].value)


def key_hash(certificate: bytes) -> str:
    """The SHA-256 of its public key (DER), in hexadecimal digits, as nats-server pins one. ValueError if it is none."""
    return _key_hash(x509.load_pem_x509_certificate(certificate))


def key_hash_of_der(certificate: bytes) -> str:
    """``key_hash`` of a certificate as a connection shows it: DER."""
    return _key_hash(x509.load_der_x509_certificate(certificate))


def _key_hash(certificate: x509.Certificate) -> str:
    return _hash_of(certificate.public_key())


def _hash_of(public: CertificatePublicKeyTypes) -> str:
    encoded = public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(encoded).hexdigest()


def fingerprint(certificate: bytes) -> bytes:
    """The SHA-256 of a certificate (PEM), over its DER: 32 bytes. ValueError if it is none."""
    return x509.load_pem_x509_certificate(certificate).fingerprint(hashes.SHA256())


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, now: datetime, end: datetime
) -> x509.CertificateBuilder:
    return x509.CertificateBuilder(
        issuer, subject, key, x509.random_serial_number(), min(now - _SKEW, end - _SKEW), end
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _public_key(request: bytes) -> ec.EllipticCurvePublicKey:
    try:
        found = x509.load_pem_x509_csr(request)
        public = found.public_key()
        if (
            found.is_signature_valid
            and isinstance(public, ec.EllipticCurvePublicKey)
            and public.curve.name == "secp256r1"
        ):
            return public
    except (ValueError, InvalidSignature) as error:
        raise LmxdError(
            "invalid_params", "the request for a certificate cannot be read", "send a CSR as PEM"
        ) from error
    raise LmxdError("invalid_params", "the request for a certificate is not signed by its own key on P-256")


def _loaded(key: bytes) -> ec.EllipticCurvePrivateKey:
    loaded = serialization.load_pem_private_key(key, password=None)
    assert isinstance(loaded, ec.EllipticCurvePrivateKey)
    return loaded
