"""Documents in chunks with their vectors, and questions that were looked up in them."""

from django.db import models
from django.db.models import Q
from pgvector.django import HnswIndex, VectorField

from polm_core.retrieval.encoder import DIMENSIONS, MODEL_NAME
from webapp.accounts.models import Team, User
from webapp.claimed import ClaimedWork, WorkQuerySet, WorkStatus
from webapp.datasets.models import DatasetVersion
from webapp.ids import new_id


class IndexQuerySet(WorkQuerySet["DocumentIndex"]):
    """For the type checker, which does not find a generic manager."""


class DocumentIndex(ClaimedWork):
    """A version of a dataset of documents, cut into chunks. Nothing is looked up in it before it is done.

    `documents` of the version's rows are in, as `chunks` chunks: a worker that takes over goes on from there.
    `progress` may hold `eta_s`, the seconds that the rest will take.
    """

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    team = models.ForeignKey(Team, on_delete=models.CASCADE, related_name="+")
    name = models.CharField(max_length=200)
    dataset_version = models.ForeignKey(DatasetVersion, on_delete=models.PROTECT, related_name="indexes")
    encoder = models.CharField(max_length=100, default=MODEL_NAME)
    chunk_tokens = models.PositiveSmallIntegerField()
    overlap = models.PositiveSmallIntegerField()
    documents = models.PositiveIntegerField(default=0)
    chunks = models.PositiveIntegerField(default=0)
    progress = models.JSONField(default=dict, blank=True)
    created_by = models.ForeignKey(User, null=True, on_delete=models.SET_NULL, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)

    objects = IndexQuerySet.as_manager()

    class Meta:
        verbose_name = "document index"
        verbose_name_plural = "document indexes"
        indexes = [
            models.Index(fields=["team", "-id"], name="document_index_team_newest"),
            models.Index(fields=["id"], condition=Q(status__in=["waiting", "running"]), name="document_index_open"),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def is_done(self) -> bool:
        return self.status == WorkStatus.DONE


class Chunk(models.Model):
    """A part of a document: the dataset's row `document`, from 0, of which it is part `position` and begins at
    character `start`."""

    index = models.ForeignKey(DocumentIndex, on_delete=models.CASCADE, related_name="+", db_index=False)
    document = models.PositiveIntegerField()
    position = models.PositiveIntegerField()
    start = models.PositiveIntegerField()
    title = models.TextField(blank=True)
    text = models.TextField()
    vector = VectorField(dimensions=DIMENSIONS)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["index", "document", "position"], name="chunk_place_unique")]
        indexes = [HnswIndex(name="chunk_nearest", fields=["vector"], opclasses=["vector_cosine_ops"])]

    def __str__(self) -> str:
        return self.text[:60]


class LookupQuerySet(WorkQuerySet["Lookup"]):
    """For the type checker."""


class Lookup(ClaimedWork):
    """A question that is looked up in an index. `passages` are the nearest chunks, as `passages_nearest` gives them."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    index = models.ForeignKey(DocumentIndex, on_delete=models.CASCADE, related_name="+")
    question = models.TextField()
    top_k = models.PositiveSmallIntegerField()
    min_score = models.FloatField()
    passages = models.JSONField(default=list, blank=True)
    created_by = models.ForeignKey(User, null=True, on_delete=models.SET_NULL, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)

    objects = LookupQuerySet.as_manager()

    class Meta:
        verbose_name = "question"
        indexes = [
            models.Index(fields=["index", "-id"], name="lookup_newest"),
            models.Index(fields=["id"], condition=Q(status__in=["waiting", "running"]), name="lookup_open"),
        ]

    def __str__(self) -> str:
        return self.question[:60]
