from django.apps import AppConfig


class RecipesConfig(AppConfig):
    name = "webapp.recipes"

    def ready(self) -> None:
        """Have pipelines go on in the transaction in which a run ends, whichever process that is in."""
        from webapp.recipes.services import pipeline_follow
        from webapp.runs.signals import run_moved

        run_moved.connect(pipeline_follow, dispatch_uid="pipelines")
