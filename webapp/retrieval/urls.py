"""Addresses of indexes of documents."""

from django.urls import path

from webapp.retrieval import views

urlpatterns = [
    path("", views.indexes, name="indexes"),
    path("new", views.index_new, name="index-new"),
    path("<uuid:pk>", views.index, name="index"),
    path("<uuid:pk>/stop", views.index_stop, name="index-stop"),
    path("<uuid:pk>/resume", views.index_resume, name="index-resume"),
    path("<uuid:pk>/delete", views.index_delete, name="index-delete"),
]
