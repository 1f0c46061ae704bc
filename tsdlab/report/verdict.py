"""What an analysis finds, in sentences: each gives its numbers, and says whether a difference was shown."""

from __future__ import annotations

from collections.abc import Mapping

from tsdlab.analysis.analyze import Analysis
from tsdlab.analysis.displacement import ALL_LEVELS
from tsdlab.analysis.misalignment import Misalignment
from tsdlab.analysis.statistics import Estimate
from tsdlab.structures import TASKS

NO_DIFFERENCE = "no difference shown"
_NO_INTERVAL = "too few images to compare"
_SAME = "the same when rounded"

# A sentence is a list of (text, role): the task whose colour the text has, "interval" for one, "" for none.
Sentence = list[tuple[str, str]]


def verdict(analysis: Analysis) -> list[Sentence]:
    """The findings of an analysis, the most important one first."""
    found = analysis.misalignment
    sentences = [_displacement(analysis)]
    if (measured := main_level(found)) is not None:
        method, level = measured
        sentences.append(_peaks(found, method, level))
        sentences += _salient(found, level)
    return [sentence for sentence in sentences if sentence]


def plain(sentence: Sentence) -> str:
    """A sentence as text."""
    return "".join(text for text, _ in sentence)


def compared(difference: Estimate | None, positive: str, negative: str, digit: float = 0.001) -> str:
    """What a difference shows: `positive` if its interval is above 0, `negative` if below; "" if it has no value.

    `digit` is the last one that is shown of the two numbers; what is smaller than that is not called a difference.
    """
    if difference is None or difference.value is None or difference.low is None or difference.high is None:
        return ""
    if difference.low <= 0 <= difference.high:
        return NO_DIFFERENCE
    if difference.low == difference.high:  # every draw of images gave the same: there is one, or one that counts
        return _NO_INTERVAL
    if abs(difference.value) < digit / 2:
        return _SAME
    return positive if difference.value > 0 else negative


def main_level(found: Misalignment) -> tuple[str, str] | None:
    """The method and the level whose peak distance most objects have; gradients before proposals."""
    for method in ("gradients", "proposals"):
        counts = {
            level: max((_count(row.get("peak_distance")) for row in branches.values()), default=0)
            for level, branches in found.maps.get(method, {}).items()
        }
        if counts and max(counts.values()):
            return method, max(counts, key=lambda level: counts[level])
    return None


def percent(estimate: Estimate | None) -> str:
    """A fraction in percent, with one decimal."""
    if estimate is None or estimate.value is None:
        return "–"
    return "<0.1%" if 0 < estimate.value < 0.0005 else f"{100 * estimate.value:.1f}%"


def _displacement(analysis: Analysis) -> Sentence:
    moved = analysis.displacement
    if moved is None:
        if sum(analysis.misalignment.proposals.values()):
            return [("Both tasks read the proposal P itself: this head moves nothing.", "")]
        return [("No proposal overlaps an object enough to measure a displacement.", "")]
    level = moved.levels[ALL_LEVELS]
    means = {task: level.means[f"{task}_offset"] for task in moved.tasks}
    parts: Sentence = [("Displacement of ", "")]
    for i, (task, mean) in enumerate(means.items()):
        parts += [(", of " if i else "", ""), (f"{task} {percent(mean)}", task)]
    parts.append((" of P", ""))
    for task in TASKS:
        if task not in means:
            parts += [("; ", ""), (task, task), (" reads P itself", "")]
    word = compared(level.difference, "classification is moved farther", "localization is moved farther")
    return [*parts, (_ending(word), "")]


def _peaks(found: Misalignment, method: str, level: str) -> Sentence:
    row = {branch: measures.get("peak_distance") for branch, measures in found.maps[method][level].items()}
    numbers = _listed({branch: percent(estimate) for branch, estimate in row.items()})
    difference = found.moved.get(method, {}).get(level, {}).get("peak_distance")
    end = _ending(compared(difference, *_in_words(row, "farther apart", "closer")))
    return [(f"The best places of the two tasks are {numbers} of the object’s size apart{end}", "")]


def _salient(found: Misalignment, level: str) -> list[Sentence]:
    """How much more the class depends on the salient part than on an average place, if the data mark one."""
    name = "classification_energy_on_salient"
    row = {branch: measures.get(name) for branch, measures in found.maps.get("gradients", {}).get(level, {}).items()}
    known = {branch: f"{of.value:.1f}" for branch, of in row.items() if of is not None and of.value is not None}
    if not known:
        return []
    difference = found.moved.get("gradients", {}).get(level, {}).get(name)
    end = _ending(compared(difference, *_in_words(row, "more", "less"), digit=0.1))
    text = f" depends {_listed(known)} times as much on the salient part as on an average place{end}"
    return [[("Classification", "classification"), (text, "")]]


def _ending(word: str) -> str:
    return f": {word}." if word else "."


def _in_words(row: Mapping[str, object], more: str, less: str) -> tuple[str, str]:
    detecting = list(row)[-1]
    return f"{more} in {detecting}", f"{less} in {detecting}"


def _listed(numbers: Mapping[str, str]) -> str:
    """Numbers with the names of their branches; without names if there is one branch."""
    if len(numbers) == 1:
        return next(iter(numbers.values()))
    return " and ".join(f"{number} ({branch})" for branch, number in numbers.items())


def _count(estimate: Estimate | None) -> int:
    return 0 if estimate is None else estimate.count
