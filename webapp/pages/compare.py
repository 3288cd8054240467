from typing import Any

from django.http import HttpRequest, HttpResponse

from webapp.accounts.access import signed_in


@signed_in
def compare(request: HttpRequest, **kwargs: Any) -> HttpResponse:
    return HttpResponse("")
