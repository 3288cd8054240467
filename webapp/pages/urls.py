"""Addresses of the pages that look across apps."""

from django.urls import include, path

from webapp.pages import compare, frontier, home, leaderboard, methods, projects, search, workbench

urlpatterns = [
    path("", home.home, name="home"),
    path("first-run", home.first_run, name="first-run"),
    path("runs/", include("webapp.pages.runs.urls")),
    path("runs/", include("webapp.pages.recipes.urls")),
    path("sweeps/", include("webapp.pages.sweeps.urls")),
    path("compare/", compare.compare, name="compare"),
    path("models/<uuid:pk>/frontier", frontier.frontier, name="frontier"),
    path("leaderboard/", leaderboard.leaderboard, name="leaderboard"),
    path("leaderboard/csv", leaderboard.leaderboard_file, name="leaderboard-file"),
    path("methods/", methods.methods, name="methods"),
    path("methods/<slug:slug>", methods.method, name="method"),
    path("search", search.search, name="search"),
    path("workbench/", workbench.workbench, name="workbench"),
    path("workbench/<uuid:pk>", workbench.trial, name="reward-trial"),
    path("workbench/<uuid:pk>/stop", workbench.trial_stop, name="reward-trial-stop"),
    path("workbench/<uuid:pk>/pin", workbench.trial_pin, name="reward-trial-pin"),
    path("project", projects.switch, name="project-switch"),
    path("projects/<uuid:pk>", projects.project, name="project"),
]
