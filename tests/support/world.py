"""One of everything, owned by one team, and callers of every kind around it."""

from dataclasses import dataclass
from typing import Any

from django.db.models import Q
from django.utils import timezone

from tests.support import factories
from tests.support.api import ApiClient
from tests.support.checkpoints import make_base_model, make_checkpoint
from tests.support.exports import make_export
from tests.support.indexes import make_index
from tests.support.pipelines import make_pipeline
from tests.support.runs import make_run
from tests.support.sweeps import make_sweep
from webapp.accounts import services
from webapp.accounts.access import Actor
from webapp.accounts.models import ApiToken, Invitation, Membership, Role, Team, TeamSecret, User
from webapp.alerts.models import Alert, AlertDelivery, AlertRule
from webapp.alerts.services import rule_create
from webapp.datasets.models import Dataset, DatasetCard, DatasetVersion, VersionDiff
from webapp.metrics.services import MetricLine, MetricWriter
from webapp.playground.models import Generation
from webapp.recipes.models import Pipeline, PipelineStage, StageRun
from webapp.recipes.services import pipeline_stop
from webapp.registry.models import BaseModel, Checkpoint, Export, ModelSource, ParityCheck, Share
from webapp.reports.links import link_create
from webapp.reports.models import Report, ReportVersion, ViewLink
from webapp.reports.services import report_create
from webapp.retrieval.models import Chunk, DocumentIndex, Lookup
from webapp.runs.models import Project, RewardList, Run, RunCheckpoint, RunLog, RunSample, RunView, Worker
from webapp.runs.reward_lists import reward_list_create
from webapp.runs.run_views import ViewState, view_create
from webapp.sweeps.models import Sweep, Trial
from webapp.workbench.models import RewardTrial
from webapp.workbench.services import trial_create

# In the name of everything that the team owns: a page that shows it to others gives itself away.
MARK = "zinnober"


@dataclass
class World:
    """A team's things and people. Nobody but the team may see or change any of it."""

    team: Team
    people: dict[str, User]
    project: Project
    dataset: Dataset
    version: DatasetVersion
    model: BaseModel
    run: Run
    second_run: Run
    checkpoint: Checkpoint
    share: Share
    export: Export
    generation: Generation
    index: DocumentIndex
    lookup: Lookup
    trial: RewardTrial
    reward_list: RewardList
    invitation: Invitation
    token: ApiToken
    worker: Worker
    # One that runs, and one that was stopped.
    pipeline: Pipeline
    stopped_pipeline: Pipeline
    sweep: Sweep
    # Shared with the team by the member.
    run_view: RunView
    report: Report
    view_link: ViewLink
    # A rule with a webhook, and an alert of it on the run.
    alert_rule: AlertRule
    alert: Alert

    def state(self) -> dict[str, list[dict[str, Any]]]:
        """What the team owns and what is made from it, row by row: equal twice when nothing changed in between."""
        of_team = Q(team=self.team)
        owned = {
            Team: Q(pk=self.team.pk),
            Membership: of_team,
            Invitation: of_team,
            TeamSecret: of_team,
            ApiToken: Q(pk=self.token.pk),
            Project: of_team,
            Dataset: of_team,
            DatasetVersion: Q(dataset__team=self.team),
            DatasetCard: Q(dataset__team=self.team),
            VersionDiff: Q(before__dataset__team=self.team),
            BaseModel: of_team | Q(checkpoint__team=self.team),
            Checkpoint: of_team,
            Share: Q(checkpoint__team=self.team),
            Export: Q(checkpoint__team=self.team),
            ParityCheck: Q(checkpoint__team=self.team),
            Run: of_team | Q(dataset_version__dataset__team=self.team) | Q(model__team=self.team),
            RunCheckpoint: Q(run__team=self.team),
            RunView: of_team & Q(shared=True),
            RewardTrial: of_team,
            Report: Q(project__team=self.team),
            ReportVersion: Q(report__project__team=self.team),
            ViewLink: of_team,
            RewardList: Q(project__team=self.team),
            Pipeline: of_team,
            PipelineStage: Q(pipeline__team=self.team),
            StageRun: Q(stage__pipeline__team=self.team),
            Sweep: of_team,
            Trial: Q(sweep__team=self.team),
            DocumentIndex: of_team,
            Chunk: Q(index__team=self.team),
            Lookup: Q(index__team=self.team),
            AlertRule: Q(project__team=self.team),
            Alert: of_team,
            AlertDelivery: Q(rule__project__team=self.team),
            Generation: of_team | Q(checkpoint__team=self.team) | Q(model__team=self.team),
        }
        return {
            model.__name__: list(model._default_manager.filter(mine).order_by("pk").values())
            for model, mine in owned.items()
        }

    def marks(self) -> list[bytes]:
        """What identifies the team's things in an answer."""
        things = (
            self.team,
            self.project,
            self.dataset,
            self.version,
            self.model,
            self.run,
            self.checkpoint,
            self.share,
            self.export,
            self.pipeline,
            self.sweep,
            self.run_view,
            self.report,
            self.view_link,
            self.alert_rule,
            self.alert,
        )
        return [
            MARK.encode(),
            *(
                str(thing.pk).encode()
                for thing in (*things, self.generation, self.index, self.lookup, self.trial, self.invitation)
            ),
        ]


def make_world() -> World:
    """Builds the world and its people: see `_people`."""
    team = factories.make_team(MARK)
    people = _people(team)
    admin, member = Actor(people["admin"]), Actor(people["member"])
    BaseModel.objects.create(name="starter", source=ModelSource.STARTER)
    version = factories.make_version(member, f"{MARK} rows")
    model = make_base_model(team, f"{MARK} model")
    project = Project.objects.create(team=team, name=f"{MARK} project")
    sources = {"dataset_version": version, "model": model, "project": project, "created_by": people["member"]}
    run, second_run = (make_run(team, f"{MARK} {name} run", **sources) for name in ("first", "second"))
    checkpoint = _results(run)
    index, lookup = make_index(member, MARK)
    pipeline, stopped_pipeline = (make_pipeline(member, f"{MARK} {name} ", name=MARK) for name in ("new", "old"))
    pipeline_stop(actor=member, pipeline=stopped_pipeline)
    report = report_create(actor=member, project=project, title=f"{MARK} report", body=f"{MARK}\n")
    alert_rule = rule_create(
        actor=member,
        project=project.pk,
        name=f"{MARK} rule",
        kind="health",
        webhook_url=f"https://{MARK}.example.com/x",
    )
    return World(
        team=team,
        people=people,
        project=project,
        dataset=version.dataset,
        version=version,
        model=model,
        run=run,
        second_run=second_run,
        checkpoint=checkpoint,
        share=factories.make_share(checkpoint),
        export=make_export(checkpoint, prompts=[MARK]),
        generation=factories.make_generation(team, checkpoint),
        index=index,
        lookup=lookup,
        trial=trial_create(actor=member, run=run.pk, rewards=["length"]),
        reward_list=reward_list_create(actor=member, project=project, name=f"{MARK} rewards", rewards=["length"]),
        invitation=services.invitation_create(actor=admin, team=team, role=Role.VIEWER)[0],
        token=services.token_create(actor=member, name=f"{MARK} token")[0],
        worker=Worker.objects.create(name="worker", host="host", heartbeat_at=timezone.now()),
        pipeline=pipeline,
        stopped_pipeline=stopped_pipeline,
        alert_rule=alert_rule,
        alert=Alert.objects.create(team=team, rule=alert_rule, run=run, message=MARK),
        sweep=make_sweep(member, name=f"{MARK} sweep", model=str(model.pk), dataset=version.dataset_id),
        run_view=view_create(actor=member, name=f"{MARK} view", state=ViewState(f"tag:{MARK}"), shared=True),
        report=report,
        view_link=link_create(actor=member, report=report),
    )


def _people(team: Team) -> dict[str, User]:
    """Viewer, member and admin of the team; a bystander, who is one more member; a guest, who is viewer there and
    admin elsewhere; an outsider, who is only admin elsewhere; and a loner without a team.
    """
    elsewhere = factories.make_team("Elsewhere")
    people = {role.value: factories.make_user(role.value, team, role) for role in Role}
    people["bystander"] = factories.make_user("bystander", team)
    people["guest"] = factories.make_user("guest", team, Role.VIEWER)
    people["outsider"] = factories.make_user("outsider", elsewhere, Role.ADMIN)
    people["loner"] = factories.make_user("loner")
    Membership.objects.create(team=elsewhere, user=people["guest"], role=Role.ADMIN)
    return people


def _results(run: Run) -> Checkpoint:
    """What a run leaves behind: points, a log, a sample and a checkpoint."""
    MetricWriter(run.pk).append([MetricLine(step, 1_790_000_000.0 + step, {"loss": 1 / step}) for step in (1, 2)])
    RunLog.objects.create(run=run, offset=0, text=f"{MARK}\n")
    RunSample.objects.create(run=run, step=1, offset=0, prompt=MARK, completion=MARK)
    checkpoint = make_checkpoint(run.team, f"{MARK} @ 20", base_model=run.model)
    RunCheckpoint.objects.create(run=run, checkpoint=checkpoint, step=20)
    return checkpoint


def api_client_of(user: User | None) -> ApiClient:
    """An API client with a token of that user; without one for a stranger."""
    return ApiClient(services.token_create(actor=Actor(user), name="test")[1] if user else None)
