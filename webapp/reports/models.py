"""Reports with all their versions, and links that show a report or a comparison to whoever holds them."""

import uuid

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q
from django.utils import timezone

from webapp.accounts.models import Team, User
from webapp.ids import new_id
from webapp.runs.models import Project


class Report(models.Model):
    """A page of text about runs. `number` is that of its present version, which has its text."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="reports")
    title = models.CharField(max_length=200)
    number = models.PositiveIntegerField(default=0)
    created_by = models.ForeignKey(User, null=True, on_delete=models.SET_NULL, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)
    updated_by = models.ForeignKey(User, null=True, on_delete=models.SET_NULL, related_name="+")
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        indexes = [models.Index(fields=["project", "-id"], name="report_project_newest")]

    def __str__(self) -> str:
        return self.title

    @property
    def team_id(self) -> uuid.UUID:
        """Whose it is."""
        return self.project.team_id


class ReportVersion(models.Model):
    """A report as somebody saved it. It is never changed."""

    report = models.ForeignKey(Report, on_delete=models.CASCADE, related_name="versions")
    number = models.PositiveIntegerField()
    title = models.CharField(max_length=200)
    body = models.TextField(blank=True)
    created_by = models.ForeignKey(User, null=True, on_delete=models.SET_NULL, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        verbose_name = "version"
        constraints = [models.UniqueConstraint(fields=["report", "number"], name="report_version_unique")]

    def __str__(self) -> str:
        return f"{self.title} v{self.number}"


class ViewLinkQuerySet(models.QuerySet["ViewLink"]):
    def active(self) -> "ViewLinkQuerySet":
        """The links that are neither revoked nor past their end."""
        return self.filter(revoked_at=None, expires_at__gt=timezone.now())


class ViewLink(models.Model):
    """Whoever has the link sees one report, or the charts and values of these runs of the team, until it ends.

    `runs` are their ids in order, the baseline first, and `group` what they are grouped by; a report's link has none.
    """

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    team = models.ForeignKey(Team, on_delete=models.CASCADE, related_name="view_links")
    report = models.ForeignKey(Report, null=True, blank=True, on_delete=models.CASCADE, related_name="links")
    runs = ArrayField(models.UUIDField(), default=list, blank=True)
    title = models.CharField(max_length=200, blank=True)
    group = models.CharField(max_length=250, blank=True)
    # The rest of the address of the view, which is part of the link.
    view = models.TextField(blank=True)
    expires_at = models.DateTimeField()
    revoked_at = models.DateTimeField(null=True, blank=True)
    created_by = models.ForeignKey(User, null=True, on_delete=models.SET_NULL, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)

    objects = ViewLinkQuerySet.as_manager()

    class Meta:
        verbose_name = "link"
        constraints = [
            models.CheckConstraint(
                condition=Q(report__isnull=False, runs=[]) | (Q(report__isnull=True) & ~Q(runs=[])),
                name="view_link_shows_one_thing",
            )
        ]
        indexes = [models.Index(fields=["team", "-id"], name="view_link_newest")]

    def __str__(self) -> str:
        return f"link to {self.report or self.title or 'a comparison'}"
