"""Links that open one shared checkpoint to whoever holds them.

A link carries the share's id and a signature with a key derived from SECRET_KEY. It is never stored: the share's row
says whether it still opens anything.
"""

import uuid

from django.core.signing import BadSignature, Signer
from django.http import HttpRequest
from django.urls import reverse

from webapp.registry.models import Share, ShareKind

_SALT = "webapp.registry.share"


def share_token(share: Share) -> str:
    """The secret part of a link share's address."""
    return _signer().sign(share.pk.hex)


def share_url(request: HttpRequest, share: Share) -> str | None:
    """The address that a link share opens; None for the other kinds."""
    if share.kind != ShareKind.LINK:
        return None
    return request.build_absolute_uri(reverse("share", args=[share_token(share)]))


def share_id(token: str) -> uuid.UUID | None:
    """The share that a token was made for; None when the token is not one of ours."""
    try:
        return uuid.UUID(hex=_signer().unsign(token))
    except (BadSignature, ValueError):
        return None


def _signer() -> Signer:
    return Signer(salt=_SALT, sep=".")
