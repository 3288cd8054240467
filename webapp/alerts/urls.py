"""Addresses of alerts and of the rules that give them."""

from django.urls import path

from webapp.alerts import views

urlpatterns = [
    path("", views.alerts, name="alerts"),
    path("bell", views.bell, name="alert-bell"),
    path("seen", views.alerts_seen, name="alerts-seen"),
    path("runs/<uuid:pk>", views.of_run, name="run-alerts"),
    path("rules/", views.rules, name="alert-rules"),
    path("rules/new", views.rule_new, name="alert-rule-new"),
    path("rules/<uuid:pk>", views.rule, name="alert-rule"),
    path("rules/<uuid:pk>/edit", views.rule_edit, name="alert-rule-edit"),
    path("rules/<uuid:pk>/switch", views.rule_switch, name="alert-rule-switch"),
    path("rules/<uuid:pk>/test", views.rule_test, name="alert-rule-test"),
    path("rules/<uuid:pk>/delete", views.rule_delete, name="alert-rule-delete"),
]
