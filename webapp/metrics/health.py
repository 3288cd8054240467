"""Advice on a run: rules that look at its curves and say what is the matter, what shows it and what to try."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from statistics import fmean, median

from django.utils import timezone

from polm_core import catalogue
from polm_core.rewards.config import REWARD_NAMES
from webapp.metrics import reading
from webapp.metrics.models import MetricSeries
from webapp.runs.leases import LEASE
from webapp.runs.models import ACTIVE, Run
from webapp.runs.selectors import stalled_since

# A curve is judged in this many buckets, and only once it has that many points.
BUCKETS = 40
ENOUGH = 20

SILENT_AFTER = timedelta(seconds=60)
RISE = 1.2
# A rise counts when it takes back this share of what was gained: a loss near 0 doubles by chance.
REGAINED = 0.1
SPIKE = 10.0
UNLEARNED = 0.1
LONGER = 1.5
FLAT = 0.1
SAME = 0.9
CLIPPED = 0.5
COLLAPSED = 0.2
UNJUDGED = 0.2
DISK_FREE = 0.1
FEW_SOLVED = 0.1
FEW_IMPROVED = 0.05
# Perplexity that is so many times what it was is more than making a model smaller should cost.
COSTLY = 1.1
NEIGHBOURS_STAY = 0.9

REWARD_PARTS = tuple(f"reward/{name}" for name in REWARD_NAMES)
WATCHED = (
    "loss",
    "eval/loss",
    "grad_norm",
    "logps/chosen",
    "rewards/margins",
    "reward",
    "eval/reward",
    "eval/teacher_kl",
    "eval/teacher_uld",
    *REWARD_PARTS,
    "reward_std",
    "frac_reward_zero_std",
    "pairs/tied",
    "entropy",
    "completions/mean_length",
    "completions/clipped_ratio",
    "reward/judge/not_judged",
    "reward/reward_model/not_judged",
    "made/solved",
    "made/improved",
    "eval/perplexity",
    "size/ratio",
    "neighbourhood",
)


@dataclass(frozen=True)
class Advice:
    """One finding: what is the matter, what shows it, what to try. `rule` names what found it."""

    title: str
    evidence: str
    remedy: str
    rule: str = ""


@dataclass(frozen=True)
class Curve:
    """The finite values of a metric in at most `BUCKETS` means by step, with the largest value of each bucket."""

    points: int
    means: list[float]
    peaks: list[float]

    @property
    def span(self) -> int:
        """How many buckets a trend is told from: a fifth of them."""
        return max(1, len(self.means) // 5)

    @property
    def start(self) -> float:
        return fmean(self.means[: self.span])

    @property
    def now(self) -> float:
        return fmean(self.means[-self.span :])

    @property
    def best(self) -> float:
        """The lowest mean over a span."""
        return min(fmean(self.means[i : i + self.span]) for i in range(len(self.means) - self.span + 1))

    @property
    def spread(self) -> float:
        return max(self.means) - min(self.means)


@dataclass(frozen=True)
class Signs:
    """What the rules look at. `curves` holds those metrics of which at least one value is finite.

    `bounds` are what the charts of the run's method say a metric should stay below.
    """

    run: Run
    totals: Mapping[str, MetricSeries]
    curves: Mapping[str, Curve]
    bounds: Mapping[str, float]

    @property
    def draws_answers(self) -> bool:
        """Whether the run learns from answers that it writes: the loss of such a run says little about its progress."""
        return self.is_rewarded or "completions/mean_length" in self.totals

    @property
    def is_rewarded(self) -> bool:
        """Whether it learns from rewards: the loss on what is held out then says little, too."""
        return "reward" in self.totals

    @property
    def is_in_rounds(self) -> bool:
        """Whether the run begins on new rows now and then, each time with a loss as high as at first."""
        solved = self.totals.get("made/solved")
        return solved is not None and solved.count > 1

    @property
    def makes_smaller(self) -> bool:
        """Whether the run made its model smaller, which costs quality by itself."""
        return "size/ratio" in self.totals

    def trend(self, key: str) -> Curve | None:
        """The curve of a metric that has enough points for a trend."""
        curve = self.curves.get(key)
        return curve if curve is not None and curve.points >= ENOUGH else None


Rule = Callable[[Signs], Advice | None]


def advice_for(run: Run) -> list[Advice]:
    """What the rules have to say about a run."""
    signs = _read(run)
    found = ((name, rule(signs)) for name, rule in RULES.items())
    return [replace(advice, rule=name) for name, advice in found if advice is not None]


def _read(run: Run) -> Signs:
    bounds = _bounds(run.method)
    totals = {series.key: series for series in run.series.filter(key__in={*WATCHED, *bounds})}
    windows = {key: window for key, one in totals.items() if (window := reading.window_of(one, BUCKETS))}
    columns = reading.read_windows(list(windows.values()))
    curves = {}
    for key, window in windows.items():
        found = columns[window.series.pk]
        known = found.count > 0
        if known.any():
            curves[key] = Curve(totals[key].count, found.mean[known].tolist(), found.max[known].tolist())
    return Signs(run, totals, curves, bounds)


def _bounds(slug: str) -> dict[str, float]:
    method = catalogue.find(slug)
    charts = method.charts if method else ()
    return {key: chart.bound for chart in charts if chart.bound is not None for key in chart.keys}


def _loss_not_finite(signs: Signs) -> Advice | None:
    bad = [one for key in ("loss", "eval/loss", "grad_norm") if (one := signs.totals.get(key)) and one.not_finite]
    if not bad:
        return None
    evidence = ", ".join(f"{one.key}: {one.not_finite:,} of {one.count:,} points are NaN or infinite" for one in bad)
    if any(one.count == one.not_finite for one in bad):
        remedy = "It never was one: most often no token of a row is trained on. Raise max_length, or see the preflight."
        return Advice("The loss is not a number", evidence, remedy)
    return Advice(
        "The loss is no longer a number",
        evidence,
        "Lower the learning rate, set max_grad_norm to 1 or less, or train in fp32 or bf16.",
    )


def _nothing_trained(signs: Signs) -> Advice | None:
    loss = signs.totals.get("loss")
    if loss is None or signs.draws_answers or loss.count < 3 or loss.not_finite or not loss.min == loss.max == 0:
        return None
    return Advice(
        "No token is trained on",
        f"the loss is 0 at all {loss.count:,} points, so nothing was learned from the first step on",
        "Look at the first row in the preflight: raise max_length, or train on all tokens.",
    )


def _loss_zero(signs: Signs) -> Advice | None:
    loss = signs.totals.get("loss")
    if loss is None or signs.draws_answers or loss.count < 3 or loss.last != 0 or loss.min != 0 or not loss.max:
        return None
    return Advice(
        "The loss is exactly 0",
        f"it was up to {loss.max:.4g} and is 0 at step {loss.last_step:,}, so nothing more is learned",
        "The rows are learned by heart, or every pair is past its margin: stop, or take more rows. In fp16 small "
        "losses become 0: train in bf16 or fp32.",
    )


def _loss_rises(signs: Signs) -> Advice | None:
    loss = signs.trend("loss")
    if loss is None or signs.draws_answers or loss.best <= 0 or loss.now < RISE * loss.best:
        return None
    if signs.is_in_rounds:
        return None
    if loss.now - loss.best < REGAINED * (loss.start - loss.best):
        return None
    return Advice(
        "The loss has risen from its best",
        f"it was {loss.best:.4g} and is {loss.now:.4g} now, averaged over a fifth of the run",
        "Lower the learning rate or lengthen the warm-up; an earlier checkpoint may be the better one.",
    )


def _gradient_spikes(signs: Signs) -> Advice | None:
    norm = signs.trend("grad_norm")
    if norm is None:
        return None
    # Large gradients in the first steps are what a warm-up is for.
    peak, usual = max(norm.peaks[norm.span :], default=0.0), median(norm.means)
    if peak < SPIKE * usual or usual <= 0:
        return None
    return Advice(
        "The gradient spikes",
        f"its norm reaches {peak:.4g} and is usually {usual:.4g}",
        "Lower max_grad_norm or the learning rate, and look for rows unlike the others.",
    )


def _chosen_unlearned(signs: Signs) -> Advice | None:
    chosen, margin = signs.trend("logps/chosen"), signs.trend("rewards/margins")
    if chosen is None or margin is None or signs.draws_answers or margin.now <= margin.start:
        return None
    if chosen.now > chosen.start - UNLEARNED * abs(chosen.start):
        return None
    return Advice(
        "The chosen answers become unlikely too",
        f"log-probability from {chosen.start:.4g} to {chosen.now:.4g} while the margin rose from {margin.start:.4g} to "
        f"{margin.now:.4g}",
        "Raise beta, lower the learning rate, or add sft to the losses so that chosen answers stay likely.",
    )


def _far_from_reference(signs: Signs) -> Advice | None:
    for key, bound in signs.bounds.items():
        curve = signs.curves.get(key)
        if curve is not None and curve.now > bound:
            return Advice(
                "The model has drifted far from its reference",
                f"{key} is {curve.now:.4g} and should stay below {bound:g}",
                "Raise beta or lower the learning rate; rewards won beyond this rarely mean better answers.",
            )
    return None


def _always_zero(signs: Signs) -> Advice | None:
    reward = signs.totals.get("reward")
    if reward is None or not _is_zero(reward):
        return None
    return Advice(
        "Every reward is 0",
        f"no answer of {reward.count:,} steps got any, so there is nothing to learn from",
        "Try the rewards on some answers in the reward workbench; begin with an easier one, such as think_tags, or "
        "with a model that gets some answers right.",
    )


def _is_zero(reward: MetricSeries | None) -> bool:
    return reward is not None and reward.count >= ENOUGH and reward.min == 0 == reward.max


def _not_judged(signs: Signs) -> Advice | None:
    for name in ("judge", "reward_model"):
        share = signs.curves.get(f"reward/{name}/not_judged")
        if share is not None and share.now > UNJUDGED:
            return Advice(
                f"Many answers get no score from {name}",
                f"{share.now:.0%} of them lately: they count by their other rewards alone",
                "Most often it replies with something else than a number, cannot be reached, or the answers are longer "
                "than it can read. Try it in the reward workbench.",
            )
    return None


def _no_signal(signs: Signs) -> Advice | None:
    same = signs.trend("frac_reward_zero_std") or signs.trend("pairs/tied")
    spread = signs.trend("reward_std")
    if _is_zero(signs.totals.get("reward")):
        return None
    if same is not None and same.now >= SAME:
        evidence = f"at {same.now:.0%} of the prompts all answers get the same reward, so none is preferred"
    elif spread is not None and spread.now == 0:
        evidence = f"the standard deviation of the rewards went from {spread.start:.4g} to 0: no answer is preferred"
    else:
        return None
    return Advice(
        "The rewards give no signal",
        evidence,
        "Take prompts of other difficulty, raise the temperature or the group size, or grade rewards more finely.",
    )


def _length_hacking(signs: Signs) -> Advice | None:
    length = signs.trend("completions/mean_length")
    parts = {key: part for key in REWARD_PARTS if (part := signs.trend(key))}
    if not parts and (whole := signs.trend("reward")):
        parts = {"reward": whole}
    if length is None or not parts or length.now < LONGER * length.start:
        return None
    if any(part.now - part.start > FLAT * part.spread for part in parts.values()):
        return None
    rewards = ", ".join(f"{key} from {part.start:.4g} to {part.now:.4g}" for key, part in parts.items())
    return Advice(
        "Answers grow longer and not better",
        f"from {length.start:.4g} to {length.now:.4g} tokens, with {rewards}",
        "Put a length penalty among the rewards, or bound the answers with max_completion_length.",
    )


def _clipped(signs: Signs) -> Advice | None:
    clipped = signs.curves.get("completions/clipped_ratio")
    if clipped is None or clipped.now <= CLIPPED:
        return None
    return Advice(
        "Most answers are cut off",
        f"{clipped.now:.0%} of them reach the length limit, so their end is never learned from",
        "Raise the longest completion, or ask for shorter answers in the prompt.",
    )


def _entropy_collapse(signs: Signs) -> Advice | None:
    entropy = signs.trend("entropy")
    if entropy is None or not signs.draws_answers or entropy.now > COLLAPSED * entropy.start:
        return None
    return Advice(
        "The entropy has collapsed",
        f"it fell from {entropy.start:.4g} to {entropy.now:.4g}: the model hardly tries anything new",
        "Raise the temperature or the KL weight, or lower the learning rate.",
    )


def _held_out_worse(signs: Signs) -> Advice | None:
    loss = signs.curves.get("eval/loss")
    if loss is None or signs.is_rewarded or signs.makes_smaller or len(loss.means) < 3:
        return None
    first, best, last = loss.means[0], min(loss.means), loss.means[-1]
    if last > first:
        title, evidence = "The held-out loss is worse than at the start", f"it was {first:.4g} and is {last:.4g} now"
    elif best > 0 and last >= RISE * best and last - best >= REGAINED * (first - best):
        title, evidence = "The held-out loss is past its best", f"it was {best:.4g} and is {last:.4g} now"
    else:
        return None
    return Advice(
        title,
        evidence,
        "The training rows are learned by heart: stop earlier, lower the learning rate, or use more rows.",
    )


def _held_out_reward_worse(signs: Signs) -> Advice | None:
    reward = signs.curves.get("eval/reward")
    if reward is None or len(reward.means) < 3:
        return None
    first, last = reward.means[0], reward.means[-1]
    if last >= first - FLAT * reward.spread:
        return None
    return Advice(
        "The held-out reward is worse than at the start",
        f"it was {first:.4g} and is {last:.4g} now",
        "Lower the learning rate or raise beta; with few prompts, take more of them.",
    )


def _few_solved(signs: Signs) -> Advice | None:
    solved = signs.totals.get("made/solved")
    if solved is None or solved.last is None or solved.last >= FEW_SOLVED:
        return None
    return Advice(
        "Few prompts have a right answer",
        f"{solved.last:.0%} of them at step {solved.last_step:,}, so a round has little to learn from",
        "Take easier prompts, draw more answers to each, or fine-tune on some examples first.",
    )


def _refined_in_vain(signs: Signs) -> Advice | None:
    improved = signs.totals.get("made/improved")
    if improved is None or improved.last is None or improved.last >= FEW_IMPROVED:
        return None
    return Advice(
        "Rewriting improves hardly any answer",
        f"a later version earns more than the first at {improved.last:.0%} of the prompts",
        "Ask for the critique in other words, take a stronger model, or draw more answers with rejection-sampling.",
    )


def _farther_from_teacher(signs: Signs) -> Advice | None:
    distance = signs.curves.get("eval/teacher_kl") or signs.curves.get("eval/teacher_uld")
    if distance is None or len(distance.means) < 3 or distance.means[-1] <= distance.means[0]:
        return None
    return Advice(
        "The model has moved away from its teacher",
        f"on held-out answers its distance was {distance.means[0]:.4g} and is {distance.means[-1]:.4g} now",
        "Lower the learning rate, use more rows, or take a teacher that is tuned to the same chat turns.",
    )


def _costly(signs: Signs) -> Advice | None:
    perplexity = signs.curves.get("eval/perplexity")
    if perplexity is None or not signs.makes_smaller or len(perplexity.means) < 2:
        return None
    before, after = perplexity.means[0], perplexity.means[-1]
    if after <= COSTLY * before:
        return None
    return Advice(
        "The smaller model is much worse",
        f"on held-out rows its perplexity was {before:.4g} and is {after:.4g} now",
        "Quantise to int8 or with a smaller group_size; take out less; or train after pruning, with max_steps.",
    )


def _edits_spill(signs: Signs) -> Advice | None:
    unchanged = signs.totals.get("neighbourhood")
    if unchanged is None or unchanged.last is None or unchanged.last >= NEIGHBOURS_STAY:
        return None
    return Advice(
        "Edits change what was to stay",
        f"{unchanged.last:.0%} of the neighbours are answered as before the first edit",
        "Make fewer edits, raise stats_tokens, or lower max_change.",
    )


def _silent(signs: Signs) -> Advice | None:
    run = signs.run
    if run.status not in ACTIVE or run.lease_until is None:
        return None
    silence = timezone.now() - (run.lease_until - LEASE)
    if silence < SILENT_AFTER:
        return None
    return Advice(
        "Its worker has not been heard of",
        f"no sign of life for {silence.total_seconds():.0f} s",
        "Another worker takes the run over from its last checkpoint; the queue shows which workers are alive.",
    )


def _stalled(signs: Signs) -> Advice | None:
    since = stalled_since(signs.run)
    if since is None:
        return None
    silence = (timezone.now() - since).total_seconds()
    return Advice(
        "The run has stalled",
        f"its training process lives but has given no sign of life for {silence:.0f} s",
        "The end of the log shows where each of its threads is. Stop it, or wait: by default it is ended and goes on "
        "from its last checkpoint.",
    )


def _disk_full(signs: Signs) -> Advice | None:
    run = signs.run
    system = run.worker.system if run.worker is not None and run.status in ACTIVE else {}
    free, total = system.get("disk_free"), system.get("disk_total")
    if not total or free is None or free >= DISK_FREE * total:
        return None
    return Advice(
        "The worker's disk is almost full",
        f"{free / total:.0%} of its {total / 1e9:,.0f} GB are free",
        "Delete runs or checkpoints that nobody needs, or save less often: without room a checkpoint is lost.",
    )


RULES: dict[str, Rule] = {
    "loss_not_finite": _loss_not_finite,
    "nothing_trained": _nothing_trained,
    "loss_zero": _loss_zero,
    "loss_rises": _loss_rises,
    "held_out_worse": _held_out_worse,
    "held_out_reward_worse": _held_out_reward_worse,
    "farther_from_teacher": _farther_from_teacher,
    "gradient_spikes": _gradient_spikes,
    "chosen_unlearned": _chosen_unlearned,
    "far_from_reference": _far_from_reference,
    "always_zero": _always_zero,
    "not_judged": _not_judged,
    "no_signal": _no_signal,
    "length_hacking": _length_hacking,
    "clipped": _clipped,
    "entropy_collapse": _entropy_collapse,
    "few_solved": _few_solved,
    "refined_in_vain": _refined_in_vain,
    "costly": _costly,
    "edits_spill": _edits_spill,
    "silent": _silent,
    "stalled": _stalled,
    "disk_full": _disk_full,
}
