"""Tokens and secrets: the database holds a digest or a ciphertext, never the thing itself."""

import base64
import hashlib
import secrets

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from django.conf import settings
from django.utils.encoding import force_bytes


def new_token() -> str:
    """256 random bits as 43 characters that a URL carries as they are."""
    return secrets.token_urlsafe(32)


def digest(text: str) -> str:
    """SHA-256 in hex. Enough for random tokens, which nobody can guess; not for passwords."""
    return hashlib.sha256(text.encode()).hexdigest()


def encrypt(value: str, purpose: str) -> bytes:
    """Encrypt with a key derived from SECRET_KEY for this purpose alone, so that a ciphertext fits nowhere else."""
    return _keys(purpose).encrypt(value.encode())


def decrypt(ciphertext: bytes | memoryview, purpose: str) -> str | None:
    """What was encrypted for this purpose; None when no present key opens it."""
    try:
        return _keys(purpose).decrypt(bytes(ciphertext)).decode()
    except InvalidToken:
        return None


def _keys(purpose: str) -> MultiFernet:
    return MultiFernet([_key(secret, purpose) for secret in (settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS)])


def _key(secret: str | bytes, purpose: str) -> Fernet:
    derived = HKDF(algorithm=SHA256(), length=32, salt=None, info=f"polm-studio:{purpose}".encode())
    return Fernet(base64.urlsafe_b64encode(derived.derive(force_bytes(secret))))
