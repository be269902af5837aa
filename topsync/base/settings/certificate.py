"""What signs the certificates of bulk starts."""

from __future__ import annotations

from pydantic import Field, SecretStr

from topsync.base.settings.fields import EnvironmentSettings


class CertificateSettings(EnvironmentSettings):
    """The certificates of bulk starts."""

    certificate_key: SecretStr | None = Field(
        None,
        description="Ed25519 private key that signs certificates: PEM, or base64 of its 32 bytes (`topsync "
        "certificate key --new`). Without it certificates are not signed, and anybody could have written "
        "them: docs/reference/certificate.md.",
    )
