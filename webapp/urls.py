"""Every address of the studio: one URL module per app."""

from django.urls import include, path

from webapp.accounts.access import public
from webapp.api import mount

api = mount()
api_patterns, api_app, api_namespace = api.urls
for pattern in api_patterns:
    if pattern.callback is not None:
        # The API authenticates each operation itself and denies by default (see webapp.api).
        public(pattern.callback)

urlpatterns = [
    path("api/v1/", (api_patterns, api_app, api_namespace)),
    path("", include("webapp.pages.urls")),
    path("", include("webapp.accounts.urls")),
    path("datasets/", include("webapp.datasets.urls")),
    path("models/", include("webapp.registry.urls")),
    path("indexes/", include("webapp.retrieval.urls")),
    path("alerts/", include("webapp.alerts.urls")),
    path("playground/", include("webapp.playground.urls")),
]

handler400 = "webapp.ui.middleware.bad_request"
handler403 = "webapp.ui.middleware.permission_denied"
handler404 = "webapp.ui.middleware.page_not_found"
handler500 = "webapp.ui.middleware.server_error"
