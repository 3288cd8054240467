from django.urls import path

from webapp.pages.recipes import launch, pipeline, restart

urlpatterns = [
    path("recipes/", pipeline.recipes, name="recipes"),
    path("recipes/<slug:slug>", launch.launch, name="recipe"),
    path("pipelines/<uuid:pk>", pipeline.pipeline, name="pipeline"),
    path("pipelines/<uuid:pk>/stop", pipeline.stop, name="pipeline-stop"),
    path("pipelines/<uuid:pk>/delete", pipeline.delete, name="pipeline-delete"),
    path("pipelines/<uuid:pk>/restart/<slug:stage>", restart.restart, name="pipeline-restart"),
]
