"""Addresses of the pages that look across apps."""

from django.urls import include, path

from webapp.pages import (
    compare,
    frontier,
    home,
    leaderboard,
    methods,
    projects,
    reports,
    search,
    shared,
    workbench,
)

urlpatterns = [
    path("", home.home, name="home"),
    path("first-run", home.first_run, name="first-run"),
    path("runs/", include("webapp.pages.runs.urls")),
    path("runs/", include("webapp.pages.recipes.urls")),
    path("compare/", compare.compare, name="compare"),
    path("compare/share", shared.compare_share, name="compare-share"),
    path("reports/", reports.reports, name="reports"),
    path("reports/new", reports.report_new, name="report-new"),
    path("reports/preview", reports.report_preview, name="report-preview"),
    path("reports/<uuid:pk>", reports.report, name="report"),
    path("reports/<uuid:pk>/edit", reports.report_edit, name="report-edit"),
    path("reports/<uuid:pk>/history", reports.report_history, name="report-history"),
    path("reports/<uuid:pk>/restore", reports.report_restore, name="report-restore"),
    path("reports/<uuid:pk>/delete", reports.report_delete, name="report-delete"),
    path("reports/<uuid:pk>/share", shared.report_share, name="report-share"),
    path("links/<uuid:pk>/revoke", shared.link_end, name="link-end"),
    path("shared/<str:token>", shared.shared_view, name="shared-view"),
    path("shared/<str:token>/data", shared.shared_data, name="shared-data"),
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
