"""Addresses of models, checkpoints and shares."""

from django.urls import path

from webapp.registry import views

urlpatterns = [
    path("", views.models, name="models"),
    path("new", views.model_new, name="model-new"),
    path("<uuid:pk>", views.model, name="model"),
    path("<uuid:pk>/rename", views.model_rename, name="model-rename"),
    path("<uuid:pk>/retry", views.model_retry, name="model-retry"),
    path("<uuid:pk>/delete", views.model_delete, name="model-delete"),
    path("checkpoints/<uuid:pk>", views.checkpoint, name="checkpoint"),
    path("checkpoints/<uuid:pk>/download", views.checkpoint_download, name="checkpoint-download"),
    path("checkpoints/<uuid:pk>/register", views.checkpoint_register, name="checkpoint-register"),
    path("checkpoints/<uuid:pk>/share", views.share_new, name="share-new"),
    path("checkpoints/<uuid:pk>/delete", views.checkpoint_delete, name="checkpoint-delete"),
    path("checkpoints/<uuid:pk>/exports", views.exports, name="exports"),
    path("checkpoints/<uuid:pk>/parity", views.parity, name="parity"),
    path("checkpoints/<uuid:pk>/parity/delete", views.parity_delete, name="parity-delete"),
    path("exports/<uuid:pk>/download", views.export_download, name="export-download"),
    path("exports/<uuid:pk>/delete", views.export_delete, name="export-delete"),
    path("shares/<uuid:pk>/revoke", views.share_revoke, name="share-revoke"),
    path("shared/<str:token>", views.share, name="share"),
    path("shared/<str:token>/download", views.share_download, name="share-download"),
]
