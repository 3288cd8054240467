"""Addresses of datasets."""

from django.urls import path

from webapp.datasets import card_views, choosing_views, diff_views, views

urlpatterns = [
    path("", views.datasets, name="datasets"),
    path("generate", views.dataset_generate, name="dataset-generate"),
    path("mix", choosing_views.mix, name="dataset-mix"),
    path("card-preview", card_views.card_preview, name="dataset-card-preview"),
    path("<uuid:pk>", views.dataset, name="dataset"),
    path("<uuid:pk>/rows", views.dataset_rows, name="dataset-rows"),
    path("<uuid:pk>/rows.jsonl", views.dataset_download, name="dataset-download"),
    path("<uuid:pk>/images/<str:name>", views.dataset_image, name="dataset-image"),
    path("<uuid:pk>/mapping", views.dataset_mapping, name="dataset-mapping"),
    path("<uuid:pk>/convert", views.dataset_convert, name="dataset-convert"),
    path("<uuid:pk>/split", choosing_views.split, name="dataset-split"),
    path("<uuid:pk>/filter", choosing_views.filter_rows, name="dataset-filter"),
    path("<uuid:pk>/diff", diff_views.diff, name="dataset-diff"),
    path("<uuid:pk>/card", card_views.card, name="dataset-card"),
    path("<uuid:pk>/edit", views.dataset_edit, name="dataset-edit"),
    path("<uuid:pk>/delete", views.dataset_delete, name="dataset-delete"),
]
