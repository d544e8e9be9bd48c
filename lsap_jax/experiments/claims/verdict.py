"""Whether "alignment improves perception and editability at equal fidelity" holds, by a rule that is stated beforehand.

The candidate is compared with a baseline that was trained on the same data for as many steps; several seeds of each are
averaged image by image. The claim is confirmed if all three parts hold:

equal fidelity    in MSE and in the perceptual distance the candidate is not worse by `margin` (a part of the baseline's
                  mean) or more: the paired t test and Wilcoxon's signed-rank test both reject that at `level`.
perception        its reconstructions have a higher logit of the discriminator: both tests reject "not higher".
editability       where equally many edits succeed (without success: at the same strength), preservation, logit, LEC,
                  cycle consistency and identity, as far as both have them, have no paired 95 % interval of the
                  difference on the worse side of 0, and at least one on the better.

A claim may be about some of the parts (`parts`), and about some measures of edits (`measures`).

What is better has to be so for training, too, not for images alone: with several seeds, each of the candidate's has to
be better than each of the baseline's. KID and NSCD are told and not tested: KID has no pairs, and a smaller NSCD is not
better as such.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from lsap_jax.experiments.claims.columns import Methods
from lsap_jax.experiments.claims.seeds import apart, of_edits, of_images
from lsap_jax.experiments.comparison.tables import HIGHER_IS_BETTER
from lsap_jax.experiments.edit_quality.curves import AtSuccess, difference
from lsap_jax.experiments.edit_quality.tables import LOWER_IS_BETTER, Entry, at_strength, matched
from lsap_jax.metrics.significance import Interval, non_inferiority

FIDELITY, PERCEPTION, EDITABILITY = "equal fidelity", "perception", "editability"
PARTS = (FIDELITY, PERCEPTION, EDITABILITY)
EDITS = ("preserved", "logit", "lec", "cycle", "identity")
BETTER, WORSE, NEITHER = "better", "worse", "no difference shown"


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One comparison of the candidate with the baseline.

    Attributes:
        part: of the claim.
        measure: what was compared.
        means: of candidate and baseline.
        difference: candidate - baseline, with its interval where that decides.
        p: of the t test and of Wilcoxon's, where these decide.
        apart: whether each of the candidate's seeds is better; None where they do not matter.
        outcome: in words.
        holds: whether the part can hold by this finding.
    """

    part: str
    measure: str
    means: tuple[float, float]
    difference: Interval
    p: tuple[float, float] | None
    apart: bool | None
    outcome: str
    holds: bool


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The findings, and which parts of the claim hold."""

    statement: str
    findings: Sequence[Finding]
    parts: Mapping[str, bool]

    @property
    def confirmed(self) -> bool:
        return all(self.parts.values())

    @property
    def unmeasured(self) -> tuple[str, ...]:
        """Parts about which nothing was measured; they do not hold, and nothing speaks against them."""
        return tuple(part for part in self.parts if all(one.part != part for one in self.findings))


def judge(methods: Methods, settings: Mapping[str, Any]) -> Verdict:
    """The verdict on a comparison's claim.

    Args:
        settings: `claim` of a configuration such as lsap_claims.

    Raises:
        LsapError: candidate or baseline are not among the presets.
    """
    a, b, about = tuple(settings["candidate"]), tuple(settings["baseline"]), tuple(settings.get("parts", PARTS))
    metrics = [metric for metric in ("mse", methods.comparison.distance) if metric and FIDELITY in about]
    fidelity = [_tested(FIDELITY, methods, a, b, metric, settings) for metric in metrics]
    judged = {**settings, "margin": 0.0}
    perception = [_tested(PERCEPTION, methods, a, b, "logit", judged)] if PERCEPTION in about else []
    editability = _edits(methods, a, b, settings.get("measures", EDITS)) if EDITABILITY in about else []
    findings = [one for one in (*fidelity, *perception) if one is not None] + editability
    better = any(one.outcome == BETTER and one.apart is not False for one in editability)
    parts = {
        FIDELITY: None not in fidelity and len(fidelity) == 2 and all(one.holds for one in fidelity if one),
        PERCEPTION: any(one is not None and one.holds for one in perception),
        EDITABILITY: better and all(one.holds for one in editability),
    }
    parts = {part: holds for part, holds in parts.items() if part in about}
    return Verdict(statement=str(settings["statement"]), findings=findings, parts=parts)


def _tested(
    part: str, methods: Methods, a: Sequence[str], b: Sequence[str], metric: str, settings: Mapping[str, Any]
) -> Finding | None:
    """Whether the candidate is not worse by the margin; without a margin, whether it is better. None without values."""
    candidates, baselines = of_images(methods, a, metric), of_images(methods, b, metric)
    pairs = np.stack([candidates.mean(axis=0), baselines.mean(axis=0)])
    kept = np.isfinite(pairs).all(axis=0)
    if not kept.any():
        return None
    candidate, baseline = pairs[:, kept]
    higher, margin = metric in HIGHER_IS_BETTER, float(settings["margin"]) * abs(float(baseline.mean()))
    found = non_inferiority(candidate, baseline, margin, higher_is_better=higher)
    shown = found.p_t < settings["level"] and found.p_wilcoxon < settings["level"]
    separate = None
    if part == PERCEPTION:
        separate = apart(*(list(x[:, kept].mean(axis=1)) for x in (candidates, baselines)), higher_is_better=higher)
    word = ("better" if shown else "not shown to be better") if margin == 0 else f"worse by less than {margin:.3g}"
    return Finding(
        part=part,
        measure=metric,
        means=(float(candidate.mean()), float(baseline.mean())),
        difference=Interval(mean=found.difference, low=math.nan, high=math.nan, n=found.n),
        p=(found.p_t, found.p_wilcoxon),
        apart=separate,
        outcome=word if shown or margin == 0 else f"not shown to be {word}",
        holds=shown and separate is not False,
    )


def _edits(methods: Methods, a: Sequence[str], b: Sequence[str], measures: Sequence[str]) -> list[Finding]:
    """What edits of the candidate differ in, where equally many succeed, or else at the strength."""
    one, other = of_edits(methods, a, "candidate"), of_edits(methods, b, "baseline")
    if one is None or other is None or not _comparable(methods):
        return []
    compared = _measures(methods, [one, other])
    trained = [entry for seed in (*a, *b) if (entry := methods.edited(seed)) is not None]
    single = _measures(methods, trained)
    findings = []
    for measure in measures:
        if not all(measure in compared[entry.name] for entry in (one, other)):
            continue
        first, second = (compared[entry.name][measure] for entry in (one, other))
        found, higher = difference(first, second).interval, measure not in LOWER_IS_BETTER
        outcome = _outcome(found, higher)
        seeds = [[single[seed][measure].mean for seed in group] for group in (a, b)]
        separate = apart(*seeds, higher_is_better=higher) if outcome == BETTER else None
        findings.append(
            Finding(
                part=EDITABILITY,
                measure=measure,
                means=(first.mean, second.mean),
                difference=found,
                p=None,
                apart=separate,
                outcome=outcome,
                holds=outcome != WORSE and math.isfinite(found.mean),
            )
        )
    return findings


def _comparable(methods: Methods) -> bool:
    """Whether edits are compared: at a level of success, or else at a strength."""
    return methods.quality is not None and (bool(methods.quality.levels) or methods.place is not None)


def _measures(methods: Methods, entries: Sequence[Entry]) -> dict[str, dict[str, AtSuccess]]:
    """Entry -> measure -> its value at the level of success, over the directions that all of these entries reach; at
    the strength where there is no success.
    """
    quality, place = methods.quality, methods.place
    assert quality is not None
    if quality.levels:
        return matched(replace(quality, entries=entries), entries, methods.success).measures
    assert place is not None
    return {
        entry.name: {name: at_strength(found, place) for name, found in entry.means.items() if name in EDITS}
        for entry in entries
    }


def _outcome(found: Interval, higher_is_better: bool) -> str:
    if not math.isfinite(found.low) or found.low <= 0 <= found.high:
        return NEITHER if math.isfinite(found.mean) else "not comparable"
    return BETTER if (found.mean > 0) == higher_is_better else WORSE
