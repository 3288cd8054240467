"""Links that open one shared thing, as a checkpoint, to whoever holds them.

A link carries the id of the share's row and a signature with a key derived from SECRET_KEY and from what kind of share
it is. It is never stored: the row says whether it still opens anything.
"""

import uuid

from django.core.signing import BadSignature, Signer
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.urls import reverse

from webapp.registry.models import Share, ShareKind

_SALT = "webapp.registry.share"


def share_token(share: Share) -> str:
    """The secret part of a link share's address."""
    return signed(share.pk, _SALT)


def share_url(request: HttpRequest, share: Share) -> str | None:
    """The address that a link share opens; None for the other kinds."""
    if share.kind != ShareKind.LINK:
        return None
    return request.build_absolute_uri(reverse("share", args=[share_token(share)]))


def share_id(token: str) -> uuid.UUID | None:
    """The share that a token was made for; None when the token is not one of ours."""
    return unsigned(token, _SALT)


def private(response: HttpResponseBase) -> HttpResponseBase:
    """The address is the secret: keep it out of caches, search engines and other sites' logs."""
    response.headers["Referrer-Policy"] = "no-referrer"
    response.headers["X-Robots-Tag"] = "noindex, nofollow"
    return response


def signed(pk: uuid.UUID, salt: str) -> str:
    """An id with its signature; `salt` names the kind of share."""
    return Signer(salt=salt, sep=".").sign(pk.hex)


def unsigned(token: str, salt: str) -> uuid.UUID | None:
    """The id in a token that was signed for this kind of share; None for any other."""
    try:
        return uuid.UUID(hex=Signer(salt=salt, sep=".").unsign(token))
    except (BadSignature, ValueError):
        return None
