from django.apps import AppConfig


class StudioConfig(AppConfig):
    name = "webapp.studio"

    def ready(self) -> None:
        from webapp.studio import checks  # noqa: F401 (registers them)
