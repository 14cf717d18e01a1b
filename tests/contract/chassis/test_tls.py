"""A server with a certificate talks to those who trust it, and, if it demands one, to those who have one."""

import ipaddress
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from grpc_health.v1 import health_pb2, health_pb2_grpc
from pydantic_settings import SettingsConfigDict

from perron.chassis.channels import Peer
from perron.chassis.errors import SetupError, Unavailable
from perron.chassis.interceptors.access import Verified
from perron.chassis.server import Application
from perron.chassis.settings import ServiceSettings


class Settings(ServiceSettings):
    model_config = SettingsConfigDict(env_prefix="PERRON_TOY_")


class Nobody:
    async def verify(self, credential: str, *, peer_network: str, want_passport: bool) -> Verified:
        return Verified("UNKNOWN")


class Certificates:
    """An authority of our own, a server's certificate, a client's, and an authority that nobody trusts."""

    def __init__(self, folder: Path) -> None:
        authority = self._make(folder, "authority", None)
        self._make(folder, "server", authority)
        self._make(folder, "client", authority)
        self._make(folder, "stranger", None)
        self.folder = folder

    def path(self, name: str) -> str:
        return str(self.folder / name)

    def read(self, name: str) -> bytes:
        return (self.folder / name).read_bytes()

    def _make(self, folder: Path, name: str, issuer: Any) -> Any:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        now = datetime.now(UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer[0] if issuer else subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(minutes=1))
            .not_valid_after(now + timedelta(hours=1))
            .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
            .add_extension(
                x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]),
                critical=False,
            )
        )
        certificate = builder.sign(issuer[1] if issuer else key, hashes.SHA256())
        (folder / f"{name}.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        (folder / f"{name}.key").write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return subject, key


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
async def port(certificates: Certificates, request: pytest.FixtureRequest) -> AsyncIterator[int]:
    """A server with a certificate; parametrized with True, it demands one of its clients."""
    environment = {
        "PERRON_TOY_TLS_CERTIFICATE_FILE": certificates.path("server.pem"),
        "PERRON_TOY_TLS_KEY_FILE": certificates.path("server.key"),
    }
    if getattr(request, "param", False):
        environment["PERRON_TOY_TLS_CLIENT_CA_FILE"] = certificates.path("authority.pem")
    app = Application("toy", Settings.read(environment), servicers=[], verifier=Nobody())
    await app.start()
    yield app.port
    await app.stop(grace_seconds=0.1)


async def check(peer: Peer) -> None:
    stub: Any = health_pb2_grpc.HealthStub(peer.channel)
    try:
        await peer.call(stub.Check, health_pb2.HealthCheckRequest(), timeout=2)
    finally:
        await peer.aclose()


async def test_a_peer_that_trusts_the_authority_is_served(port: int, certificates: Certificates) -> None:
    await check(Peer("toy", f"127.0.0.1:{port}", "", ca_file=certificates.path("authority.pem")))


@pytest.mark.parametrize("ca_file", ["", "stranger.pem"])
async def test_plaintext_and_strange_authorities_end_at_the_handshake(
    port: int, certificates: Certificates, ca_file: str
) -> None:
    with pytest.raises(Unavailable):
        await check(Peer("toy", f"127.0.0.1:{port}", "", ca_file=ca_file and certificates.path(ca_file)))


@pytest.mark.parametrize("port", [True], indirect=True)
async def test_a_demanded_client_certificate_must_be_shown(port: int, certificates: Certificates) -> None:
    with pytest.raises(Unavailable):
        await check(Peer("toy", f"127.0.0.1:{port}", "", ca_file=certificates.path("authority.pem")))
    credentials = grpc.ssl_channel_credentials(
        certificates.read("authority.pem"), certificates.read("client.key"), certificates.read("client.pem")
    )
    async with grpc.aio.secure_channel(f"127.0.0.1:{port}", credentials) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        await stub.Check(health_pb2.HealthCheckRequest(), timeout=5)


async def test_a_certificate_that_cannot_be_read_is_one_clear_refusal_to_start(tmp_path: Path) -> None:
    environment = {
        "PERRON_TOY_TLS_CERTIFICATE_FILE": str(tmp_path / "none.pem"),
        "PERRON_TOY_TLS_KEY_FILE": str(tmp_path / "none.key"),
    }
    app = Application("toy", Settings.read(environment), servicers=[], verifier=Nobody())
    with pytest.raises(SetupError, match="none"):
        await app.start()
    await app.stop()
