"""Addresses of the playground."""

from django.urls import path

from webapp.playground import views

urlpatterns = [
    path("", views.playground, name="playground"),
    path("<uuid:pk>/stop", views.generation_stop, name="generation-stop"),
]
