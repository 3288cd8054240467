"""Prompts tried on models, and what came back."""

from django.db import models
from django.db.models import Q

from polm_core.retrieval.passages import split_citations
from webapp.accounts.models import Team, User
from webapp.claimed import ClaimedWork, WorkQuerySet
from webapp.ids import new_id
from webapp.registry.models import BaseModel, Checkpoint
from webapp.retrieval.models import DocumentIndex


class GenerationQuerySet(WorkQuerySet["Generation"]):
    """For the type checker, which does not find a generic manager."""


class Generation(ClaimedWork):
    """One completion by one model. `batch` joins the generations of the same prompt, shown side by side."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    team = models.ForeignKey(Team, on_delete=models.CASCADE, related_name="+")
    batch = models.UUIDField(default=new_id)
    model = models.ForeignKey(BaseModel, null=True, blank=True, on_delete=models.CASCADE, related_name="+")
    checkpoint = models.ForeignKey(Checkpoint, null=True, blank=True, on_delete=models.CASCADE, related_name="+")
    prompt = models.TextField()
    system = models.TextField(blank=True)
    settings = models.JSONField(default=dict)
    # Where it is answered from documents: the index, what is near enough (a `FindConfig`), the passages it was given.
    index = models.ForeignKey(DocumentIndex, null=True, blank=True, on_delete=models.SET_NULL, related_name="+")
    find = models.JSONField(default=dict, blank=True)
    passages = models.JSONField(default=list, blank=True)
    text = models.TextField(blank=True)
    tokens = models.IntegerField(default=0)
    seconds = models.FloatField(null=True, blank=True)
    created_by = models.ForeignKey(User, null=True, on_delete=models.SET_NULL, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)

    objects = GenerationQuerySet.as_manager()

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(model__isnull=False, checkpoint__isnull=True)
                | Q(model__isnull=True, checkpoint__isnull=False),
                name="generation_has_one_model",
            )
        ]
        indexes = [
            models.Index(fields=["team", "-id"], name="generation_team_newest"),
            models.Index(fields=["batch"], name="generation_batch"),
            models.Index(fields=["id"], condition=Q(status__in=["waiting", "running"]), name="generation_open"),
        ]

    def __str__(self) -> str:
        return self.prompt[:60]

    @property
    def source(self) -> BaseModel | Checkpoint | None:
        """What answered."""
        return self.model or self.checkpoint

    @property
    def pieces(self) -> list[tuple[str, int | None]]:
        """The answer in pieces of text, each with the number of the passage that it cites, or None."""
        return split_citations(self.text, len(self.passages))

    @property
    def length(self) -> int:
        """The answer's length as JavaScript counts it, in UTF-16 units: pieces that arrive live name their place so."""
        return len(self.text.encode("utf-16-le")) // 2

    @property
    def tokens_per_second(self) -> float | None:
        return self.tokens / self.seconds if self.seconds else None
