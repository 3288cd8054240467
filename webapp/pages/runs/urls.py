from django.urls import path

from webapp.pages.runs import adding, bulk, comparing, decision, detail, launch, listing, parts, queue, saved

urlpatterns = [
    path("", listing.runs, name="runs"),
    path("words", listing.words, name="runs-words"),
    path("selected", bulk.bulk, name="runs-bulk"),
    path("views", saved.create, name="run-views"),
    path("views/<uuid:pk>", saved.change, name="run-view"),
    path("new", launch.launch, name="launch"),
    path("new/check", launch.check, name="launch-check"),
    path("new/row", launch.row, name="launch-row"),
    path("queue", queue.queue, name="queue"),
    path("queue/pause", queue.pause, name="queue-pause"),
    path("queue/workers/<uuid:pk>", queue.drain, name="worker-drain"),
    path("<uuid:pk>", detail.run, name="run"),
    path("<uuid:pk>/edit", detail.edit, name="run-edit"),
    path("<uuid:pk>/decision", decision.decision, name="run-decision"),
    path("<uuid:pk>/move", queue.move, name="run-move"),
    path("<uuid:pk>/delete", detail.delete, name="run-delete"),
    path("<uuid:pk>/samples", parts.samples, name="run-samples"),
    path("<uuid:pk>/samples/compare", comparing.compare, name="run-samples-compare"),
    path("<uuid:pk>/dataset", adding.dataset, name="run-dataset"),
    path("<uuid:pk>/log", parts.log, name="run-log"),
    path("<uuid:pk>/log.txt", parts.log_file, name="run-log-file"),
    path("<uuid:pk>/config.yaml", parts.config_file, name="run-config"),
    path("<uuid:pk>/checkpoints", parts.checkpoints, name="run-checkpoints"),
    path("<uuid:pk>/<str:action>", detail.action, name="run-action"),
]
