from django.apps import AppConfig


class SweepsConfig(AppConfig):
    name = "webapp.sweeps"

    def ready(self) -> None:
        """Note how trials end in the transaction in which their runs do, whichever process that is in."""
        from webapp.runs.signals import run_moved
        from webapp.sweeps.services import trial_follow

        run_moved.connect(trial_follow, dispatch_uid="sweeps")
