from django.urls import path

from webapp.pages.sweeps import new, page

urlpatterns = [
    path("", page.sweeps, name="sweeps"),
    path("new", new.new, name="sweep-new"),
    path("<uuid:pk>", page.sweep, name="sweep"),
    path("<uuid:pk>/stop", page.stop, name="sweep-stop"),
    path("<uuid:pk>/resume", page.resume, name="sweep-resume"),
    path("<uuid:pk>/delete", page.delete, name="sweep-delete"),
]
